"""Sums and their relatives, running sums, sorting."""

import torch

from recorder import away_from_zero, booleans, distinct, integers, normal, values

AXES = [((3, 5, 7), None, False), ((3, 5, 7), [1], False), ((3, 5, 7), [0, 2], True), ((4, 1, 3), [-1], True), ((2, 1, 9), [1], False)]


def tag(shape, axes, keep):
    where = "all" if axes is None else "axis" + "".join(str(axis) for axis in axes).replace("-", "m")
    return f"{'x'.join(map(str, shape))}_{where}{'_keep' if keep else ''}"


def over_axes(case):
    """Reductions that take any set of axes."""
    table = {
        "sum": lambda x, a, k: torch.sum(x, a, keepdim=k),
        "mean": lambda x, a, k: torch.mean(x, a, keepdim=k),
        "logsumexp": lambda x, a, k: torch.logsumexp(x, a, keepdim=k),
        "max": lambda x, a, k: torch.amax(x, a, keepdim=k),
        "min": lambda x, a, k: torch.amin(x, a, keepdim=k),
    }
    for operation, function in table.items():
        for shape, axes, keep in AXES:
            every = list(range(len(shape))) if axes is None else axes
            recipe = distinct(*shape, step=0.05) if operation in ("max", "min") else normal(*shape)
            case(
                operation,
                f"{operation}_{tag(shape, axes, keep)}",
                lambda x, f=function, a=every, k=keep: f(x, a, k),
                {"x": recipe},
                attributes={"dim": axes, "keepdim": keep},
            )
    for operation, function in {"var": torch.var, "std": torch.std}.items():
        for correction in [0, 1]:
            for shape, axes, keep in AXES[:3]:
                attributes = {"dim": axes, "correction": correction, "keepdim": keep}
                case(
                    operation,
                    f"{operation}_correction{correction}_{tag(shape, axes, keep)}",
                    lambda x, f=function, a=attributes: f(x, a["dim"], correction=a["correction"], keepdim=a["keepdim"]),
                    {"x": normal(*shape)},
                    attributes=attributes,
                )
    case(
        "var",
        "var_large_mean",
        lambda x: torch.var(x, [1], correction=0),
        {"x": normal(3, 64, shift=10.0)},
        attributes={"dim": [1], "correction": 0, "keepdim": False},
    )
    for order in [1.0, 2.0, 3.0, float("inf")]:
        for shape, axes, keep in AXES[:3]:
            attributes = {"ord": str(order), "dim": axes, "keepdim": keep}
            case(
                "norm",
                f"norm_{order}_{tag(shape, axes, keep)}".replace(".0", ""),
                lambda x, o=order, a=axes, k=keep: torch.linalg.vector_norm(x, o, a, k),
                {"x": distinct(*shape, step=0.05)},
                attributes=attributes,
            )
    case("sum", "sum_no_elements", lambda x: torch.sum(x, [0]), {"x": normal(0, 3)}, attributes={"dim": [0], "keepdim": False})
    case("prod", "prod_no_elements", lambda x: torch.prod(x, 0), {"x": normal(0, 3)}, attributes={"dim": [0], "keepdim": False})
    case("sum", "sum_integers", lambda x: torch.sum(x, [1]), {"x": integers(3, 5, low=-9)}, attributes={"dim": [1], "keepdim": False})
    case(
        "logsumexp",
        "logsumexp_far",
        lambda x: torch.logsumexp(x, 1),
        {"x": values([[95.0, 94.5], [-95.0, -96.0]])},
        attributes={"dim": [1], "keepdim": False},
    )


def over_one_axis(case):
    """Reductions and scans along one axis."""
    for shape, dim in [((3, 5), 1), ((5, 3), 0), ((2, 3, 4), 1), ((3, 1), 1)]:
        where = "x".join(map(str, shape)) + f"_axis{dim}"
        attributes = {"dim": dim}
        case(
            "prod",
            f"prod_{where}",
            lambda x, d=dim: torch.prod(x, d),
            {"x": away_from_zero(*shape)},
            attributes={"dim": [dim], "keepdim": False},
        )
        case("cumsum", f"cumsum_{where}", lambda x, d=dim: torch.cumsum(x, d), {"x": normal(*shape)}, attributes=attributes)
        case("cumprod", f"cumprod_{where}", lambda x, d=dim: torch.cumprod(x, d), {"x": away_from_zero(*shape)}, attributes=attributes)
        for name in ["argmax", "argmin"]:
            case(
                name,
                f"{name}_{where}",
                lambda x, f=getattr(torch, name), d=dim: f(x, d),
                {"x": distinct(*shape)},
                attributes={"dim": dim, "keepdim": False},
                constant=["x"],
            )
        for name in ["any", "all"]:
            case(
                name,
                f"{name}_{where}",
                lambda x, f=getattr(torch, name), d=dim: f(x, d),
                {"x": booleans(*shape)},
                attributes={"dim": dim, "keepdim": False},
            )
    # One zero and two zeros in a row: the gradient cannot be output / x.
    zeros = values([[2.0, 0.0, -1.5], [0.0, 3.0, 0.0], [1.5, -2.0, 0.5]])
    case("prod", "prod_with_zeros", lambda x: torch.prod(x, 1), {"x": zeros}, attributes={"dim": [1], "keepdim": False})
    case("cumprod", "cumprod_with_zeros", lambda x: torch.cumprod(x, 1), {"x": zeros}, attributes={"dim": 1})
    case("prod", "prod_all", lambda x: torch.prod(x), {"x": away_from_zero(3, 4)}, attributes={"dim": None, "keepdim": False})
    case(
        "argmax", "argmax_all", lambda x: torch.argmax(x), {"x": distinct(3, 4)}, attributes={"dim": None, "keepdim": False}, constant=["x"]
    )


def ordered(case):
    """Sorting: the values carry gradient, the places are integers."""

    def pair(result):
        return {"values": result.values, "indices": result.indices}

    for shape, dim in [((3, 7), -1), ((7, 3), 0), ((2, 1), 1)]:
        for descending in [False, True]:
            where = "x".join(map(str, shape)) + ("_descending" if descending else "")
            attributes = {"dim": dim, "descending": descending}
            case("sort", f"sort_{where}", lambda x, a=attributes: pair(torch.sort(x, **a)), {"x": distinct(*shape)}, attributes=attributes)
            case(
                "argsort",
                f"argsort_{where}",
                lambda x, a=attributes: torch.argsort(x, **a),
                {"x": distinct(*shape)},
                attributes=attributes,
                constant=["x"],
            )
    tied = values([[2.0, 1.0, 2.0, 1.0, 3.0]])
    case(
        "sort",
        "sort_stable_ties",
        lambda x: pair(torch.sort(x, stable=True)),
        {"x": tied},
        attributes={"dim": -1, "descending": False, "stable": True},
    )
    for shape, k, dim, largest in [((3, 9), 4, -1, True), ((3, 9), 2, -1, False), ((6, 3), 1, 0, True)]:
        attributes = {"k": k, "dim": dim, "largest": largest}
        name = f"topk_{'x'.join(map(str, shape))}_{k}_{'largest' if largest else 'smallest'}"
        case("topk", name, lambda x, a=attributes: pair(torch.topk(x, **a)), {"x": distinct(*shape)}, attributes=attributes)
    best = {"dim": 1, "keepdim": False}
    case("max_with_index", "max_with_index", lambda x: pair(torch.max(x, 1)), {"x": distinct(4, 5)}, attributes=best)


def record(recorder):
    over_axes(recorder.case)
    over_one_axis(recorder.case)
    ordered(recorder.case)
