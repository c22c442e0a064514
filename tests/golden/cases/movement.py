"""Shapes, slices, padding, repetition, indexing."""

import torch
import torch.nn.functional as F

from recorder import integers, normal, permutation, values


def shapes(case):
    """Views and copies that only move elements."""
    x = {"x": normal(2, 3, 4)}
    case("reshape", "reshape", lambda x: x.reshape(4, -1), x, attributes={"shape": [4, -1]})
    case("reshape", "reshape_of_transpose", lambda x: x.transpose(0, 2).reshape(6, 4), x, attributes={"transpose": [0, 2], "shape": [6, 4]})
    case("flatten", "flatten_middle", lambda x: x.flatten(1, 2), {"x": normal(2, 3, 4, 2)}, attributes={"start_dim": 1, "end_dim": 2})
    case("squeeze", "squeeze", lambda x: x.squeeze(1), {"x": normal(3, 1, 2)}, attributes={"dim": 1})
    case("unsqueeze", "unsqueeze", lambda x: x.unsqueeze(-1), x, attributes={"dim": -1})
    case("transpose", "transpose", lambda x: x.transpose(0, -1), x, attributes={"dim0": 0, "dim1": -1})
    case("permute", "permute", lambda x: x.permute(2, 0, 1), x, attributes={"dims": [2, 0, 1]})
    case("expand", "expand", lambda x: x.expand(4, 3, 5), {"x": normal(3, 1)}, attributes={"size": [4, 3, 5]})
    case("slice", "slice_steps", lambda x: x[1:9:3, ::2], {"x": normal(10, 5)}, attributes={"start": [1, 0], "end": [9, 5], "step": [3, 2]})
    case(
        "slice",
        "slice_negative",
        lambda x: x[-4:-1, :-2],
        {"x": normal(7, 5)},
        attributes={"start": [-4, 0], "end": [-1, -2], "step": [1, 1]},
    )
    case("narrow", "narrow", lambda x: x.narrow(1, 1, 2), x, attributes={"dim": 1, "start": 1, "length": 2})
    case("select", "select", lambda x: x.select(2, -1), x, attributes={"dim": 2, "index": -1})

    def parts(pieces):
        return {f"part{i}": piece for i, piece in enumerate(pieces)}

    case("split", "split_sizes", lambda x: parts(x.split([1, 4, 2], 1)), {"x": normal(2, 7)}, attributes={"sizes": [1, 4, 2], "dim": 1})
    case("chunk", "chunk_uneven", lambda x: parts(x.chunk(3, 0)), {"x": normal(7, 2)}, attributes={"chunks": 3, "dim": 0})
    case(
        "cat",
        "cat",
        lambda a, b, c: torch.cat([a, b, c], 1),
        {"a": normal(2, 3), "b": normal(2, 1), "c": normal(2, 0)},
        attributes={"dim": 1},
    )
    case("stack", "stack", lambda a, b: torch.stack([a, b], 1), {"a": normal(3, 2), "b": normal(3, 2)}, attributes={"dim": 1})
    for dims in [[0], [0, 2], [-1]]:
        case("flip", "flip_" + "".join(map(str, dims)).replace("-", "m"), lambda x, d=dims: x.flip(d), x, attributes={"dims": dims})
    case("roll", "roll", lambda x: x.roll([2, -1], [2, 0]), {"x": normal(3, 2, 5)}, attributes={"shifts": [2, -1], "dims": [2, 0]})
    case("roll", "roll_more_than_length", lambda x: x.roll(7, 0), {"x": normal(5, 2)}, attributes={"shifts": [7], "dims": [0]})
    case("repeat", "repeat", lambda x: x.repeat(2, 1, 3), {"x": normal(2, 3)}, attributes={"repeats": [2, 1, 3]})
    case(
        "repeat_interleave",
        "repeat_interleave",
        lambda x: x.repeat_interleave(3, 1),
        {"x": normal(2, 3)},
        attributes={"repeats": 3, "dim": 1},
    )
    for name in ["tril", "triu"]:
        for diagonal in [-1, 0, 2]:
            tag = f"{name}_{diagonal}".replace("-", "m")
            case(
                name, tag, lambda x, f=getattr(torch, name), d=diagonal: f(x, d), {"x": normal(2, 3, 5)}, attributes={"diagonal": diagonal}
            )
    case("pixel_shuffle", "pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), {"x": normal(1, 8, 3, 2)}, attributes={"upscale_factor": 2})


def padding(case):
    """Padding; the sizes are PyTorch's: last axis first, before then after."""
    table = [
        ("constant", (2, 3), [1, 2], 0.0), ("constant", (2, 3, 4), [1, 0, 2, 1], -1.5), ("constant", (3, 5), [-1, 2, 0, -1], 0.5),
        ("reflect", (2, 3, 6), [2, 3], None), ("reflect", (1, 2, 4, 5), [1, 4, 3, 0], None),
        ("replicate", (2, 3, 6), [2, 3], None), ("replicate", (1, 2, 3, 4), [1, 0, 2, 5], None),
        ("circular", (2, 3, 6), [2, 3], None), ("circular", (1, 2, 4, 5), [1, 5, 3, 0], None),
    ]  # fmt: skip
    for mode, shape, pad, value in table:
        attributes = {"mode": mode, "pad": pad, "value": value}
        name = f"pad_{mode}_{'x'.join(map(str, shape))}" + ("_crop" if min(pad) < 0 else "")
        case("pad", name, lambda x, a=attributes: F.pad(x, a["pad"], a["mode"], a["value"]), {"x": normal(*shape)}, attributes=attributes)


def indexing(case):
    """Reading and writing at computed places, repeated places included."""
    case(
        "gather",
        "gather_axis1",
        lambda x, index: torch.gather(x, 1, index),
        {"x": normal(3, 5), "index": integers(3, 4, high=5)},
        attributes={"dim": 1},
    )
    case(
        "gather",
        "gather_axis0",
        lambda x, index: torch.gather(x, 0, index),
        {"x": normal(3, 5), "index": integers(6, 2, high=3)},
        attributes={"dim": 0},
    )
    case(
        "scatter",
        "scatter",
        lambda x, index, source: torch.scatter(x, 1, index, source),
        {"x": normal(2, 6), "index": values([[4, 0, 2], [1, 5, 3]], torch.int64), "source": normal(2, 3)},
        attributes={"dim": 1},
    )
    case(
        "scatter_add",
        "scatter_add_repeats",
        lambda x, index, source: torch.scatter_add(x, 0, index, source),
        {"x": normal(3, 4), "index": integers(7, 4, high=3), "source": normal(7, 4)},
        attributes={"dim": 0},
    )
    case(
        "index_select",
        "index_select_axis1",
        lambda x, index: torch.index_select(x, 1, index),
        {"x": normal(2, 4, 3), "index": integers(7, high=4)},
        attributes={"dim": 1},
    )
    case(
        "index_select",
        "index_select_permutation",
        lambda x, index: torch.index_select(x, 0, index),
        {"x": normal(9, 2), "index": permutation(9)},
        attributes={"dim": 0},
    )
    case(
        "index_add",
        "index_add",
        lambda x, index, source: torch.index_add(x, 0, index, source),
        {"x": normal(3, 4), "index": integers(5, high=3), "source": normal(5, 4)},
        attributes={"dim": 0},
    )
    case(
        "embedding",
        "embedding",
        lambda index, weight: F.embedding(index, weight),
        {"index": integers(3, 4, high=7)},
        {"weight": normal(7, 5)},
    )
    case(
        "embedding",
        "embedding_padding",
        lambda index, weight: F.embedding(index, weight, padding_idx=2),
        {"index": integers(3, 4, high=4)},
        {"weight": normal(4, 5)},
        attributes={"padding_idx": 2},
    )


def record(recorder):
    shapes(recorder.case)
    padding(recorder.case)
    indexing(recorder.case)
