"""Normalisations."""

import torch.nn.functional as F
from torch import nn

from recorder import normal, uniform


def record(recorder):
    case = recorder.case
    for shape in [(4, 3), (3, 2, 5), (2, 3, 4, 3), (1, 2, 3, 2, 2)]:
        rank = len(shape)
        layer = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[rank]
        for training in [True, False]:
            recorder.module(
                "batch_norm",
                f"batch_norm_{rank}d_{'train' if training else 'eval'}",
                lambda l=layer, c=shape[1]: l(c),
                {"x": normal(*shape, scale=2.0, shift=0.5)},
                attributes={"eps": 1e-5, "momentum": 0.1},
                train=training,
                after=["running_mean", "running_var", "num_batches_tracked"],
            )
    recorder.module(
        "batch_norm",
        "batch_norm_cumulative_average",
        lambda: nn.BatchNorm1d(3, momentum=None),
        {"x": normal(4, 3)},
        attributes={"eps": 1e-5, "momentum": None},
        train=True,
        after=["running_mean", "running_var", "num_batches_tracked"],
    )
    recorder.module(
        "batch_norm",
        "batch_norm_no_affine",
        lambda: nn.BatchNorm2d(3, eps=1e-3, momentum=0.3, affine=False),
        {"x": normal(2, 3, 3, 2)},
        attributes={"eps": 1e-3, "momentum": 0.3, "affine": False},
        train=True,
        after=["running_mean", "running_var", "num_batches_tracked"],
    )
    for name, shape, normalised in [("last", (3, 7), [7]), ("two_axes", (2, 3, 4, 5), [4, 5]), ("long", (2, 65), [65])]:
        case(
            "layer_norm",
            f"layer_norm_{name}",
            lambda x, weight, bias, n=normalised: F.layer_norm(x, n, weight, bias, 1e-5),
            {"x": normal(*shape)},
            {"weight": normal(*normalised, shift=1.0, scale=0.2), "bias": normal(*normalised)},
            attributes={"normalized_shape": normalised, "eps": 1e-5},
        )
    case(
        "layer_norm",
        "layer_norm_no_affine",
        lambda x: F.layer_norm(x, [5], eps=1e-3),
        {"x": normal(3, 5)},
        attributes={"normalized_shape": [5], "eps": 1e-3},
    )
    for groups, shape in [(2, (2, 4, 5)), (3, (1, 6, 3, 2)), (1, (2, 3, 3, 3)), (4, (2, 4, 3))]:
        case(
            "group_norm",
            f"group_norm_{groups}_{'x'.join(map(str, shape))}",
            lambda x, weight, bias, g=groups: F.group_norm(x, g, weight, bias, 1e-5),
            {"x": normal(*shape)},
            {"weight": normal(shape[1], shift=1.0, scale=0.2), "bias": normal(shape[1])},
            attributes={"num_groups": groups, "eps": 1e-5},
        )
    for shape in [(2, 3, 7), (2, 3, 4, 3)]:
        case(
            "instance_norm",
            f"instance_norm_{len(shape)}d",
            lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias, eps=1e-5),
            {"x": normal(*shape)},
            {"weight": normal(3, shift=1.0, scale=0.2), "bias": normal(3)},
            attributes={"eps": 1e-5},
        )
    for training in [True, False]:
        recorder.module(
            "instance_norm",
            f"instance_norm_running_{'train' if training else 'eval'}",
            lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
            {"x": normal(2, 3, 4, 3)},
            attributes={"eps": 1e-5, "momentum": 0.1},
            train=training,
            after=["running_mean", "running_var", "num_batches_tracked"],
        )
    case(
        "rms_norm",
        "rms_norm",
        lambda x, weight: F.rms_norm(x, [7], weight, 1e-6),
        {"x": normal(2, 3, 7)},
        {"weight": normal(7, shift=1.0, scale=0.2)},
        attributes={"normalized_shape": [7], "eps": 1e-6},
    )
    for name, shape, options in [
        ("odd", (2, 7, 3, 2), {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}),
        ("even", (2, 5, 4), {"size": 4, "alpha": 0.3, "beta": 0.6, "k": 1.0}),
        ("wider_than_channels", (1, 2, 3, 3), {"size": 5, "alpha": 0.5, "beta": 0.75, "k": 1.0}),
    ]:
        case(
            "local_response_norm",
            f"local_response_norm_{name}",
            lambda x, o=options: F.local_response_norm(x, **o),
            {"x": normal(*shape)},
            attributes=options,
        )
    recorder.case(
        "weight_norm",
        "weight_norm",
        lambda x, g, v: F.linear(x, v * (g / v.norm(dim=1, keepdim=True))),
        {"x": normal(3, 5)},
        {"g": uniform(4, 1, low=0.5, high=2.0), "v": normal(4, 5)},
        attributes={"dim": 0},
    )
