"""Maximum, average, adaptive and global pools."""

import torch.nn.functional as F

from recorder import distinct, normal

MAXIMUM = [
    ("1d_plain", (2, 3, 9), {"kernel_size": 2}),
    ("1d_overlapping", (1, 2, 9), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("2d_plain", (2, 3, 6, 8), {"kernel_size": 2}),
    ("2d_odd_edge", (1, 2, 7, 5), {"kernel_size": 2}),
    ("2d_overlapping", (1, 2, 9, 7), {"kernel_size": 3, "stride": 2}),
    ("2d_overlapping_padding", (1, 2, 7, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("2d_ceil", (1, 2, 7, 8), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ("2d_ceil_drops_last", (1, 1, 6, 6), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    ("2d_oblong_dilation", (1, 2, 8, 9), {"kernel_size": [2, 3], "stride": [1, 2], "padding": [1, 0], "dilation": [2, 1]}),
    ("2d_stride1", (1, 2, 4, 5), {"kernel_size": 3, "stride": 1, "padding": 1}),
    ("3d_overlapping", (1, 2, 5, 6, 5), {"kernel_size": 3, "stride": 2, "padding": 1}),
]

AVERAGE = [
    ("1d_plain", (2, 3, 9), {"kernel_size": 2}),
    ("1d_padding_counted", (1, 2, 8), {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": True}),
    ("1d_padding_not_counted", (1, 2, 8), {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    ("2d_plain", (2, 3, 6, 8), {"kernel_size": 2}),
    ("2d_overlapping", (1, 2, 7, 9), {"kernel_size": 3, "stride": 2}),
    ("2d_padding_counted", (1, 2, 7, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": True}),
    ("2d_padding_not_counted", (1, 2, 7, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    ("2d_ceil_counted", (1, 2, 8, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": True}),
    ("2d_ceil_not_counted", (1, 2, 8, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
    ("2d_divisor", (1, 2, 5, 5), {"kernel_size": 2, "divisor_override": 3}),
    ("3d_padding_counted", (1, 2, 5, 4, 5), {"kernel_size": 2, "stride": 2, "padding": 1}),
]

ADAPTIVE = [
    ("1d", (2, 3, 7), [3]),
    ("2d_global", (2, 3, 5, 4), [1, 1]),
    ("2d_even", (1, 2, 6, 4), [3, 2]),
    ("2d_uneven", (1, 2, 7, 5), [3, 4]),
    ("2d_larger_than_input", (1, 1, 3, 2), [5, 3]),
    ("3d_uneven", (1, 2, 5, 3, 4), [2, 2, 3]),
]


def record(recorder):
    for kind, table in [("max_pool", MAXIMUM), ("avg_pool", AVERAGE)]:
        for name, shape, options in table:
            operation = kind + name[:2]
            defaults = {"stride": options["kernel_size"], "padding": 0, "ceil_mode": False}
            defaults |= {"dilation": 1} if kind == "max_pool" else {"count_include_pad": True}
            recorder.case(
                operation,
                operation + name[2:],
                lambda x, f=getattr(F, operation), o=options: f(x, **o),
                {"x": distinct(*shape, step=0.05) if kind == "max_pool" else normal(*shape)},
                attributes={**defaults, **options},
            )
    for kind in ["adaptive_avg_pool", "adaptive_max_pool"]:
        for name, shape, size in ADAPTIVE:
            operation = kind + name[:2]
            recorder.case(
                operation,
                operation + name[2:],
                lambda x, f=getattr(F, operation), s=size: f(x, s if len(s) > 1 else s[0]),
                {"x": distinct(*shape, step=0.05) if "max" in kind else normal(*shape)},
                attributes={"output_size": size},
            )
    recorder.case("global_avg_pool", "global_avg_pool", lambda x: x.mean([2, 3]), {"x": normal(2, 3, 5, 4)})
    recorder.case("global_max_pool", "global_max_pool", lambda x: x.amax([2, 3]), {"x": distinct(2, 3, 5, 4)})
    recorder.case(
        "lp_pool2d",
        "lp_pool2d",
        lambda x: F.lp_pool2d(x, 2.0, 3, 2),
        {"x": normal(1, 2, 7, 5)},
        attributes={"norm_type": 2.0, "kernel_size": 3, "stride": 2},
    )
