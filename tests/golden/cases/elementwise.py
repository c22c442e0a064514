"""Arithmetic, functions of one variable, activations, comparisons, choices and makers."""

import math

import torch
import torch.nn.functional as F

from recorder import (
    away_from_zero,
    booleans,
    integers,
    normal,
    uniform,
    values,
)

SHAPE = (3, 1, 17)


def unary(case):
    """Functions of one variable, each where it is smooth and well conditioned."""
    plain = uniform(*SHAPE, low=-3.0, high=3.0)
    positive = uniform(*SHAPE, low=0.2, high=5.0)
    inside = uniform(*SHAPE, low=-0.9, high=0.9)
    table = {
        "abs": plain, "neg": plain, "exp": plain, "exp2": plain, "expm1": plain, "log": positive, "log2": positive,
        "log10": positive, "log1p": uniform(*SHAPE, low=-0.7, high=4.0), "sqrt": positive, "rsqrt": positive,
        "square": plain, "reciprocal": away_from_zero(*SHAPE), "sin": plain, "cos": plain, "tan": inside,
        "asin": inside, "acos": inside, "atan": plain, "sinh": plain, "cosh": plain, "tanh": plain, "asinh": plain,
        "acosh": uniform(*SHAPE, low=1.2, high=5.0), "atanh": inside, "erf": plain, "erfc": inside, "sign": plain,
        "round": plain, "floor": plain, "ceil": plain, "trunc": plain, "frac": plain, "sigmoid": plain,
    }  # fmt: skip
    for name, recipe in table.items():
        function = getattr(torch, name)
        case(name, name, lambda x, function=function: function(x), {"x": recipe})
    case("round", "round_halves_to_even", lambda x: torch.round(x), {"x": values([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])})
    # Small arguments, where a formula that subtracts near-equal numbers loses everything.
    small = values([-1e-3, -1e-5, -1e-7, 1e-10, 1e-7, 1e-5, 1e-3])
    for name in ["expm1", "log1p", "sinh", "tanh", "erf", "asinh", "atanh", "sin"]:
        function = getattr(torch, name)
        case(name, f"{name}_small", lambda x, function=function: function(x), {"x": small})
    # Large arguments, where a formula that exponentiates first overflows.
    large = values([-100.0, -30.0, -20.5, 0.5, 20.5, 30.0, 100.0])
    for name, function in {
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softplus": F.softplus, "logsigmoid": F.logsigmoid,
        "silu": F.silu, "gelu": F.gelu, "mish": F.mish, "elu": F.elu, "erf": torch.erf,
    }.items():  # fmt: skip
        case(name, f"{name}_large", lambda x, function=function: function(x), {"x": large})
    special = values([-math.inf, -1.0, -0.0, 0.0, 1.0, math.inf, math.nan])
    for name in ["isnan", "isinf", "isfinite"]:
        function = getattr(torch, name)
        case(name, name, lambda x, function=function: function(x), {"x": special}, constant=["x"])
    case("logical_not", "logical_not", lambda x: torch.logical_not(x), {"x": booleans(2, 5)})


def activations(case):
    """The activations with every option they take."""
    table = [
        ("relu", {}), ("relu6", {}), ("leaky_relu", {"negative_slope": 0.01}), ("leaky_relu", {"negative_slope": 0.2}),
        ("elu", {"alpha": 1.0}), ("elu", {"alpha": 0.7}), ("selu", {}), ("celu", {"alpha": 1.3}),
        ("gelu", {"approximate": "none"}), ("gelu", {"approximate": "tanh"}), ("silu", {}), ("mish", {}),
        ("softplus", {"beta": 1.0, "threshold": 20.0}), ("softplus", {"beta": 2.5, "threshold": 4.0}),
        ("softsign", {}), ("hardtanh", {"min_val": -1.0, "max_val": 1.0}), ("hardtanh", {"min_val": -0.4, "max_val": 2.1}),
        ("hardsigmoid", {}), ("hardswish", {}), ("logsigmoid", {}), ("tanhshrink", {}), ("softshrink", {"lambd": 0.5}),
        ("hardshrink", {"lambd": 0.5}), ("threshold", {"threshold": 0.3, "value": -1.5}),
    ]  # fmt: skip
    for operation, attributes in table:
        function = getattr(F, operation)
        name = "_".join([operation, *[str(value).replace(".", "p").replace("-", "m") for value in attributes.values()]])
        # x - tanh(x) cancels near zero.
        recipe = away_from_zero(*SHAPE, low=0.5, high=3.5) if operation == "tanhshrink" else normal(*SHAPE, scale=2.0)
        case(operation, name, lambda x, f=function, a=attributes: f(x, **a), {"x": recipe}, attributes=attributes)
    case("prelu", "prelu_one", lambda x, weight: F.prelu(x, weight), {"x": normal(4, 3, 5)}, {"weight": values([0.25])})
    case(
        "prelu",
        "prelu_channels",
        lambda x, weight: F.prelu(x, weight),
        {"x": normal(2, 3, 5)},
        {"weight": uniform(3, low=0.1, high=0.6)},
    )
    for dim, shape in [(-1, (3, 6)), (1, (2, 4, 3))]:
        case("glu", f"glu_dim{dim}".replace("-", "m"), lambda x, dim=dim: F.glu(x, dim), {"x": normal(*shape)}, attributes={"dim": dim})
    for shape, dim in [((3, 7), -1), ((2, 5, 3), 1), ((4, 1), 1)]:
        attributes = {"dim": dim}
        tag = "x".join(map(str, shape))
        case("softmax", f"softmax_{tag}", lambda x, dim=dim: F.softmax(x, dim), {"x": normal(*shape, scale=2.0)}, attributes=attributes)
        case(
            "log_softmax",
            f"log_softmax_{tag}",
            lambda x, dim=dim: F.log_softmax(x, dim),
            {"x": normal(*shape, scale=2.0)},
            attributes=attributes,
        )
    far = values([[1000.0, 1001.0, 999.0], [-1000.0, -1000.5, -1002.0]])
    case("softmax", "softmax_shifted", lambda x: F.softmax(x, -1), {"x": far}, attributes={"dim": -1})
    case("log_softmax", "log_softmax_shifted", lambda x: F.log_softmax(x, -1), {"x": far}, attributes={"dim": -1})
    masked = values([[0.5, -math.inf, 1.5], [-math.inf, 2.0, -math.inf]])
    case("softmax", "softmax_masked", lambda x: F.softmax(x, -1), {"x": masked}, attributes={"dim": -1})


def binary(case):
    """Functions of two variables, with broadcasts of either side."""
    left, right = normal(3, 1, 5), away_from_zero(4, 1)
    for name in ["add", "sub", "mul", "div", "maximum", "minimum", "atan2", "fmod", "remainder", "hypot"]:
        function = getattr(torch, name)
        case(name, f"{name}_broadcast", lambda a, b, f=function: f(a, b), {"a": left, "b": right})
    case("add", "add_same_shape", lambda a, b: a + b, {"a": normal(2, 7), "b": normal(2, 7)})
    case("mul", "mul_scalar_tensor", lambda a, b: a * b, {"a": normal(2, 7), "b": normal()})
    case("mul", "mul_empty", lambda a, b: a * b, {"a": normal(0, 3), "b": normal(1, 3)})
    case("mul", "mul_with_itself", lambda a: a * a, {"a": normal(5, 2)})
    case("div", "div_number_by_tensor", lambda b: 2.5 / b, {"b": away_from_zero(3, 5)}, attributes={"numerator": 2.5})
    case("pow", "pow_tensors", lambda a, b: torch.pow(a, b), {"a": uniform(3, 1, 5, low=0.3, high=2.5), "b": normal(4, 1)})
    for exponent in [2.0, 3.0, 0.5, -1.0, -2.0, 2.7]:
        tag = str(exponent).replace(".", "p").replace("-", "m")
        recipe = away_from_zero(3, 7) if exponent.is_integer() else uniform(3, 7, low=0.3, high=2.5)
        case("pow", f"pow_{tag}", lambda x, e=exponent: torch.pow(x, e), {"x": recipe}, attributes={"exponent": exponent})
    case("logaddexp", "logaddexp", lambda a, b: torch.logaddexp(a, b), {"a": normal(3, 5, scale=3.0), "b": normal(5, scale=3.0)})
    case(
        "lerp",
        "lerp_tensor",
        lambda a, b, weight: torch.lerp(a, b, weight),
        {"a": normal(3, 5), "b": normal(3, 5), "weight": uniform(3, 1, low=0.0, high=1.0)},
    )
    case("lerp", "lerp_number", lambda a, b: torch.lerp(a, b, 0.3), {"a": normal(3, 5), "b": normal(5)}, attributes={"weight": 0.3})
    for low, high in [(-0.5, 0.8), (None, 0.4), (-0.2, None)]:
        name = f"clamp_{'low' if low is not None else ''}{'high' if high is not None else ''}"
        case("clamp", name, lambda x, l=low, h=high: torch.clamp(x, l, h), {"x": normal(3, 7)}, attributes={"min": low, "max": high})
    case(
        "where",
        "where_broadcast",
        lambda mask, a, b: torch.where(mask, a, b),
        {"mask": booleans(3, 1, 5), "a": normal(4, 1), "b": normal(1, 1, 5)},
    )
    case(
        "masked_fill",
        "masked_fill",
        lambda x, mask: x.masked_fill(mask, -2.5),
        {"x": normal(2, 3, 5), "mask": booleans(3, 1)},
        attributes={"value": -2.5},
    )
    small = {"a": integers(3, 5, low=0, high=3), "b": integers(5, low=0, high=3)}
    for name in ["eq", "ne", "lt", "le", "gt", "ge"]:
        function = getattr(torch, name)
        case(name, f"{name}_integers", lambda a, b, f=function: f(a, b), small)
        case(name, f"{name}_floats", lambda a, b, f=function: f(a, b), {"a": normal(4, 1), "b": normal(3)}, constant=["a", "b"])
    for name in ["logical_and", "logical_or", "logical_xor"]:
        function = getattr(torch, name)
        case(name, name, lambda a, b, f=function: f(a, b), {"a": booleans(3, 5), "b": booleans(5)})
    signed = {"a": integers(4, 5, low=-9, high=10), "b": values([-4, -3, 2, 3, 7], torch.int64)}
    case("add", "add_integers", lambda a, b: a + b, signed)
    case("mul", "mul_integers", lambda a, b: a * b, signed)
    case("div", "div_floor_integers", lambda a, b: torch.div(a, b, rounding_mode="floor"), signed, attributes={"rounding_mode": "floor"})
    case("div", "div_trunc_integers", lambda a, b: torch.div(a, b, rounding_mode="trunc"), signed, attributes={"rounding_mode": "trunc"})
    case("remainder", "remainder_integers", lambda a, b: torch.remainder(a, b), signed)


def makers(case):
    """Tensors made from numbers alone, and changes of element type."""
    case("arange", "arange_integers", lambda: torch.arange(3, 20, 4), attributes={"start": 3, "end": 20, "step": 4, "dtype": "i64"})
    case(
        "arange", "arange_down", lambda: torch.arange(2.0, -1.0, -0.5), attributes={"start": 2.0, "end": -1.0, "step": -0.5, "dtype": "f32"}
    )
    case("linspace", "linspace", lambda: torch.linspace(-1.0, 2.0, 7), attributes={"start": -1.0, "end": 2.0, "steps": 7})
    case("eye", "eye_wide", lambda: torch.eye(3, 5), attributes={"n": 3, "m": 5})
    case("one_hot", "one_hot", lambda x: F.one_hot(x, 6), {"x": integers(2, 4, high=6)}, attributes={"num_classes": 6})

    def grids(a, b, indexing):
        first, second = torch.meshgrid(a, b, indexing=indexing)
        return {"first": first, "second": second}

    for indexing in ["ij", "xy"]:
        case(
            "meshgrid",
            f"meshgrid_{indexing}",
            lambda a, b, i=indexing: grids(a, b, i),
            {"a": normal(3), "b": normal(4)},
            attributes={"indexing": indexing},
        )
    case(
        "cast",
        "cast_float_to_int",
        lambda x: x.to(torch.int32),
        {"x": values([-2.7, -0.5, 0.0, 0.9, 3.5, 1e6])},
        attributes={"dtype": "i32"},
        constant=["x"],
    )
    case(
        "cast",
        "cast_float_to_bool",
        lambda x: x.to(torch.bool),
        {"x": values([-2.7, -0.0, 0.0, 0.1])},
        attributes={"dtype": "bool"},
        constant=["x"],
    )
    case(
        "cast",
        "cast_int_to_float",
        lambda x: x.to(torch.float32),
        {"x": values([-3, 0, 7, 16777217], torch.int64)},
        attributes={"dtype": "f32"},
    )


def record(recorder):
    unary(recorder.case)
    activations(recorder.case)
    binary(recorder.case)
    makers(recorder.case)
