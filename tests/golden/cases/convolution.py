"""Convolutions in one, two and three dimensions, their transposes, unfold and fold."""

import torch.nn.functional as F

from recorder import normal

# name, input shape, weight shape [out, in / groups, kernel...], options
FORWARD = [
    ("1d_plain", (2, 3, 9), (4, 3, 3), {}),
    ("1d_stride_padding", (1, 2, 11), (3, 2, 4), {"stride": 3, "padding": 2}),
    ("1d_dilation_groups", (2, 4, 10), (6, 2, 3), {"dilation": 2, "groups": 2}),
    ("1d_kernel1", (2, 3, 5), (2, 3, 1), {}),
    ("2d_plain", (2, 3, 6, 5), (4, 3, 3, 3), {}),
    ("2d_same", (1, 2, 7, 7), (3, 2, 3, 3), {"padding": 1}),
    ("2d_kernel1", (2, 5, 3, 4), (7, 5, 1, 1), {}),
    ("2d_kernel1_stride2", (1, 3, 5, 5), (2, 3, 1, 1), {"stride": 2}),
    ("2d_oblong", (1, 2, 7, 9), (3, 2, 2, 5), {"stride": [2, 1], "padding": [1, 2]}),
    ("2d_dilation", (1, 2, 9, 8), (2, 2, 3, 3), {"dilation": [2, 3], "padding": [2, 1]}),
    ("2d_groups", (2, 4, 5, 5), (6, 2, 3, 3), {"padding": 1, "groups": 2}),
    ("2d_depthwise", (2, 3, 6, 5), (3, 1, 3, 3), {"padding": 1, "groups": 3}),
    ("2d_depthwise_multiplier", (1, 2, 6, 6), (4, 1, 3, 3), {"stride": 2, "groups": 2}),
    ("2d_ignored_edge", (1, 1, 8, 7), (2, 1, 3, 3), {"stride": 3}),
    ("2d_size1", (3, 1, 1, 1), (2, 1, 1, 1), {}),
    ("2d_kernel_larger_than_input", (1, 2, 2, 2), (3, 2, 5, 5), {"padding": 2}),
    ("2d_five_by_five", (1, 1, 12, 12), (6, 1, 5, 5), {"padding": 2}),
    ("3d_plain", (1, 2, 4, 5, 3), (3, 2, 2, 3, 2), {}),
    ("3d_all_options", (1, 4, 5, 6, 5), (2, 2, 3, 2, 3), {"stride": [2, 1, 2], "padding": [1, 0, 2], "dilation": [1, 2, 1], "groups": 2}),
]

# name, input shape, weight shape [in, out / groups, kernel...], options
TRANSPOSED = [
    ("1d_plain", (2, 3, 5), (3, 4, 3), {}),
    ("1d_all_options", (1, 4, 5), (4, 3, 3), {"stride": 3, "padding": 2, "output_padding": 1, "dilation": 2, "groups": 2}),
    ("2d_plain", (2, 3, 4, 3), (3, 2, 3, 3), {}),
    ("2d_double", (1, 3, 3, 4), (3, 2, 4, 4), {"stride": 2, "padding": 1}),
    ("2d_output_padding", (1, 2, 3, 4), (2, 3, 3, 3), {"stride": [2, 3], "padding": 1, "output_padding": [1, 2]}),
    ("2d_dilation", (1, 2, 3, 4), (2, 3, 2, 3), {"dilation": [2, 1]}),
    ("2d_groups", (2, 4, 3, 3), (4, 3, 2, 2), {"stride": 2, "groups": 2}),
    ("2d_from_one_pixel", (2, 5, 1, 1), (5, 2, 4, 4), {}),
    ("3d_all_options", (1, 2, 2, 3, 2), (2, 2, 3, 2, 3), {"stride": [2, 1, 2], "padding": [1, 0, 1], "output_padding": [1, 0, 1]}),
]


def record(recorder):
    for kind, table in [("conv", FORWARD), ("conv_transpose", TRANSPOSED)]:
        for name, shape, kernel, options in table:
            operation = kind + name[:2]
            defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
            defaults |= {"output_padding": 0} if kind == "conv_transpose" else {}
            channels = kernel[0] if kind == "conv" else kernel[1] * options.get("groups", 1)
            recorder.case(
                operation,
                operation + name[2:],
                lambda x, weight, bias, f=getattr(F, operation), o=options: f(x, weight, bias, **o),
                {"x": normal(*shape)},
                {"weight": normal(*kernel, scale=0.5), "bias": normal(channels)},
                attributes={**defaults, **options},
            )
    recorder.case(
        "conv2d",
        "conv2d_no_bias",
        lambda x, weight: F.conv2d(x, weight),
        {"x": normal(1, 2, 4, 4)},
        {"weight": normal(3, 2, 3, 3)},
        attributes={"stride": 1, "padding": 0, "dilation": 1, "groups": 1},
    )
    for name, shape, options in [
        ("plain", (2, 3, 5, 4), {"kernel_size": [2, 3]}),
        ("all_options", (1, 2, 8, 7), {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0], "dilation": [1, 2]}),
    ]:
        recorder.case("unfold", f"unfold_{name}", lambda x, o=options: F.unfold(x, **o), {"x": normal(*shape)}, attributes=options)
    for name, shape, options in [
        ("plain", (2, 12, 6), {"output_size": [4, 3], "kernel_size": [2, 2]}),
        (
            "all_options",
            (1, 12, 20),
            {"output_size": [8, 7], "kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0], "dilation": [1, 2]},
        ),
    ]:
        recorder.case("fold", f"fold_{name}", lambda x, o=options: F.fold(x, **o), {"x": normal(*shape)}, attributes=options)
