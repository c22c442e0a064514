"""Interpolation and sampling on a grid."""

import torch.nn.functional as F

from recorder import normal, uniform

# name, input shape, options of F.interpolate
RESIZE = [
    ("nearest_double", (1, 2, 3, 4), {"mode": "nearest", "scale_factor": 2.0}),
    ("nearest_uneven", (1, 2, 5, 7), {"mode": "nearest", "size": [8, 4]}),
    ("nearest_1d", (2, 3, 5), {"mode": "nearest", "size": [8]}),
    ("nearest_3d", (1, 2, 2, 3, 2), {"mode": "nearest", "scale_factor": 2.0}),
    ("nearest_exact_uneven", (1, 2, 5, 7), {"mode": "nearest-exact", "size": [8, 4]}),
    ("linear_1d", (2, 3, 5), {"mode": "linear", "size": [8], "align_corners": False}),
    ("linear_1d_aligned", (2, 3, 5), {"mode": "linear", "size": [8], "align_corners": True}),
    ("bilinear_double", (1, 2, 3, 4), {"mode": "bilinear", "scale_factor": 2.0, "align_corners": False}),
    ("bilinear_double_aligned", (1, 2, 3, 4), {"mode": "bilinear", "scale_factor": 2.0, "align_corners": True}),
    ("bilinear_up_down", (2, 1, 5, 7), {"mode": "bilinear", "size": [9, 3], "align_corners": False}),
    ("bilinear_up_down_aligned", (2, 1, 5, 7), {"mode": "bilinear", "size": [9, 3], "align_corners": True}),
    ("bilinear_to_one", (1, 2, 4, 5), {"mode": "bilinear", "size": [1, 1], "align_corners": True}),
    ("bilinear_from_one", (1, 2, 1, 1), {"mode": "bilinear", "size": [3, 4], "align_corners": False}),
    ("bilinear_odd_scale", (1, 2, 4, 5), {"mode": "bilinear", "scale_factor": 1.5, "align_corners": False}),
    ("bicubic_double", (1, 2, 4, 5), {"mode": "bicubic", "scale_factor": 2.0, "align_corners": False}),
    ("bicubic_double_aligned", (1, 2, 4, 5), {"mode": "bicubic", "scale_factor": 2.0, "align_corners": True}),
    ("bicubic_up_down", (1, 2, 5, 8), {"mode": "bicubic", "size": [9, 3], "align_corners": False}),
    ("bicubic_up_down_aligned", (1, 2, 5, 8), {"mode": "bicubic", "size": [9, 3], "align_corners": True}),
    ("trilinear", (1, 1, 3, 2, 4), {"mode": "trilinear", "size": [4, 5, 3], "align_corners": False}),
]


def record(recorder):
    for name, shape, options in RESIZE:
        recorder.case(
            "interpolate", f"interpolate_{name}", lambda x, o=options: F.interpolate(x, **o), {"x": normal(*shape)}, attributes=options
        )
    # The grid reaches outside [-1, 1], so every rule for the border is used.
    for mode in ["bilinear", "nearest"]:
        for padding in ["zeros", "border", "reflection"]:
            for aligned in [False, True]:
                options = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
                recorder.case(
                    "grid_sample",
                    f"grid_sample_{mode}_{padding}{'_aligned' if aligned else ''}",
                    lambda x, grid, o=options: F.grid_sample(x, grid, **o),
                    {"x": normal(2, 3, 4, 5), "grid": uniform(2, 3, 4, 2, low=-1.4, high=1.4)},
                    attributes=options,
                )
    for aligned in [False, True]:
        recorder.case(
            "affine_grid",
            f"affine_grid{'_aligned' if aligned else ''}",
            lambda theta, a=aligned: F.affine_grid(theta, [2, 1, 3, 4], align_corners=a),
            {"theta": normal(2, 2, 3)},
            attributes={"size": [2, 1, 3, 4], "align_corners": aligned},
        )
