"""Runs one case in PyTorch and keeps everything a test needs to repeat it.

A case is a function of named tensors. Its inputs are drawn from a generator seeded by the case's own
name, so adding or removing a case never changes the numbers of another.
"""

import math
import zlib

import numpy
import torch

# A float32 run further than this from the float64 run of the same case would make a tolerance of 1e-5
# meaningless: such a case is refused unless it is recorded with a written reason.
FLOAT32_LIMIT = 3e-6

SHORT_TYPE = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


# Recipes for inputs. Each is called with the case's own random generator and returns a float32 or integer tensor.


def normal(*shape, scale=1.0, shift=0.0):
    """Normally distributed values."""
    return lambda rng: to_float32(shift + scale * rng.standard_normal(shape))


def uniform(*shape, low=-1.0, high=1.0):
    """Evenly distributed values in [low, high)."""
    return lambda rng: to_float32(rng.uniform(low, high, shape))


def away_from_zero(*shape, low=0.3, high=2.0):
    """Values of both signs whose magnitude lies in [low, high)."""
    return lambda rng: to_float32(rng.uniform(low, high, shape) * rng.choice([-1.0, 1.0], shape))


def distinct(*shape, step=0.25):
    """Values no two of which are nearer than half a step, in random order: no ties for sort and maximum."""

    def draw(rng):
        count = math.prod(shape)
        places = rng.permutation(count) - count / 2.0
        return to_float32((places + rng.uniform(-0.25, 0.25, count)).reshape(shape) * step)

    return draw


def integers(*shape, low=0, high=10):
    """Integers in [low, high), as i64."""
    return lambda rng: torch.from_numpy(rng.integers(low, high, shape, dtype=numpy.int64).reshape(shape))


def permutation(count):
    """The integers below `count` in random order, as i64."""
    return lambda rng: torch.from_numpy(rng.permutation(count).astype(numpy.int64))


def booleans(*shape):
    """Fair coin flips."""
    return lambda rng: torch.from_numpy((rng.random(shape) < 0.5).reshape(shape))


def distribution(*shape):
    """Positive values that sum to one along the last axis."""

    def draw(rng):
        value = rng.uniform(0.1, 1.0, shape)
        return to_float32(value / value.sum(-1, keepdims=True))

    return draw


def values(content, dtype=torch.float32):
    """The tensor written out in the case itself."""
    return lambda rng: torch.tensor(content, dtype=dtype)


def to_float32(array):
    """A float32 tensor of any array of numbers."""
    return torch.from_numpy(numpy.asarray(array, dtype=numpy.float32).copy())


def generator(name):
    """The random generator that belongs to a name."""
    return numpy.random.Generator(numpy.random.PCG64(zlib.crc32(name.encode())))


def floating(tensor):
    return tensor.dtype.is_floating_point


def to_float64(tensor):
    return tensor.double() if tensor.dtype == torch.float32 else tensor


def named(result):
    """The outputs of a case by name; a single tensor is called `y`."""
    return result if isinstance(result, dict) else {"y": result}


def difference(value, exact):
    """Largest difference over the largest magnitude of the exact tensor; infinities must stand in the same places."""
    if value.numel() == 0:
        return 0.0
    value, exact = value.double(), exact.double()
    finite = torch.isfinite(exact)
    if not torch.equal(torch.nan_to_num(value[~finite], nan=7.0), torch.nan_to_num(exact[~finite], nan=7.0)):
        return math.inf
    value, exact = value[finite], exact[finite]
    if value.numel() == 0:
        return 0.0
    gap, size = (value - exact).abs().max().item(), exact.abs().max().item()
    return 0.0 if gap == 0.0 else gap / size if size > 0.0 else math.inf


class Recorder:
    """Collects the cases of every group: their tensors and their rows of the index."""

    def __init__(self):
        self.group = None
        self.tensors = {}
        self.rows = []
        self.names = set()
        self.refused = []

    def case(self, operation, name, function, inputs=None, params=None, attributes=None, constant=(), float32_reason=None):
        """Records one call of `function(**inputs, **params)`.

        operation: what is tested; attributes: how it was called, in PyTorch's own words;
        constant: floating inputs that the operation does not differentiate (targets, masks, statistics);
        float32_reason: why float32 itself is far from float64 here, if it is.
        """
        rng = generator(name)
        inputs = {key: recipe(rng) for key, recipe in (inputs or {}).items()}
        params = {key: recipe(rng) for key, recipe in (params or {}).items()}
        if set(inputs) & set(params):
            raise ValueError(f"{name}: an input and a parameter share a name")

        def run(convert):
            given = {key: convert(value).clone() for key, value in {**inputs, **params}.items()}
            leaves = {key: value for key, value in given.items() if floating(value) and key not in constant}
            for value in leaves.values():
                value.requires_grad_(True)
            return leaves, named(function(**given))

        self.keep(operation, name, run, inputs, params, attributes, float32_reason)

    def module(self, operation, name, build, inputs, call=None, attributes=None, train=False, constant=(), after=()):
        """Records one call of a module: every entry of its state dict is a parameter of the case.

        call(module, **inputs) defaults to module(*inputs); after: buffers whose values after the call are outputs.
        """
        rng = generator(name)
        inputs = {key: recipe(rng) for key, recipe in inputs.items()}
        torch.manual_seed(0)
        state = {key: randomise(key, value, rng) for key, value in build().state_dict().items()}
        call = call or (lambda module, **given: module(*given.values()))

        def run(convert):
            module = build().train(train)
            module = module.double() if convert is to_float64 else module
            module.load_state_dict({key: convert(value) for key, value in state.items()})
            given = {key: convert(value).clone() for key, value in inputs.items()}
            leaves = {key: value for key, value in given.items() if floating(value) and key not in constant}
            for value in leaves.values():
                value.requires_grad_(True)
            leaves.update(module.named_parameters())
            outputs = dict(named(call(module, **given)))
            buffers = dict(module.named_buffers())
            outputs.update({key: buffers[key].clone() for key in after})
            return leaves, outputs

        self.keep(operation, name, run, inputs, state, {**(attributes or {}), "training": train}, None)

    def keep(self, operation, name, run, inputs, params, attributes, float32_reason):
        """Runs a case in float32 for the record and in float64 for the error it carries, and files both."""
        tensors, exact = None, None
        for convert in (lambda tensor: tensor, to_float64):
            leaves, outputs = run(convert)
            slopes = {key: value for key, value in outputs.items() if value.requires_grad}
            rng = generator(name + ":cotangent")
            cotangents = {key: to_float32(rng.standard_normal(tuple(value.shape))) for key, value in slopes.items()}
            gradients = {}
            if slopes:
                total = sum((value * convert(cotangents[key])).sum() for key, value in slopes.items())
                # An input the outputs do not depend on raises here: no gradient is missing without saying so.
                gradients = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values()))))
            roles = {"output": outputs, "grad": gradients}
            found = {f"{role}/{key}": value.detach() for role, part in roles.items() for key, value in part.items()}
            if tensors is None:
                tensors = found
                roles = {"in": inputs, "param": params, "cotangent": cotangents}
                given = {f"{role}/{key}": value for role, part in roles.items() for key, value in part.items()}
            else:
                exact = found
        error = max((difference(tensors[key], exact[key]) for key in tensors), default=0.0)
        self.file(operation, name, attributes, {**given, **tensors}, error, float32_reason)

    def file(self, operation, name, attributes, tensors, error, float32_reason=None):
        """Adds finished tensors, named `role/name`, under a case's name."""
        if name in self.names:
            raise ValueError(f"{name}: two cases share this name")
        if error > FLOAT32_LIMIT and not float32_reason:
            self.refused.append(f"{name}: float32 is {error:.1e} from float64; choose tamer inputs or give a reason")
        self.names.add(name)
        shapes = {}
        for key, value in tensors.items():
            value = value.detach().contiguous().clone()
            self.tensors.setdefault(self.group, {})[f"{name}/{key}"] = value
            shapes[key] = SHORT_TYPE[value.dtype] + str(list(value.shape)).replace(" ", "")
        row = {"name": name, "group": self.group, "operation": operation, "attributes": attributes or {}}
        row["float32_error"] = float(f"{error:.0e}")
        if float32_reason:
            row["float32_reason"] = float32_reason
        row["tensors"] = shapes
        self.rows.append(row)


def randomise(key, value, rng):
    """Fills one entry of a state dict: a fresh layer's zeros and ones would hide mistakes."""
    shape = tuple(value.shape)
    if not floating(value):
        return value.clone()
    if key.endswith("running_var"):
        return to_float32(rng.uniform(0.5, 2.0, shape))
    if value.dim() < 2 and key.endswith("weight"):
        return to_float32(1.0 + 0.2 * rng.standard_normal(shape))
    if value.dim() < 2:
        return to_float32(0.3 * rng.standard_normal(shape))
    return to_float32(rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:])))
