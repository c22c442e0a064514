"""Products: matmul, einsum, linear layers."""

import torch
import torch.nn.functional as F

from recorder import normal


def record(recorder):
    case = recorder.case
    for left, right in [
        ((3, 5), (5, 7)), ((1, 1), (1, 1)), ((17, 33), (33, 9)), ((5,), (5,)), ((5,), (5, 3)), ((4, 5), (5,)),
        ((2, 3, 5), (2, 5, 4)), ((2, 1, 3, 5), (4, 5, 2)), ((3, 5), (2, 5, 4)), ((2, 3, 5), (5,)), ((3, 0), (0, 2)),
        ((0, 3), (3, 2)),
    ]:  # fmt: skip
        name = f"matmul_{'x'.join(map(str, left))}_by_{'x'.join(map(str, right))}"
        case("matmul", name, lambda a, b: torch.matmul(a, b), {"a": normal(*left), "b": normal(*right)})
    case(
        "matmul",
        "matmul_transposed_views",
        lambda a, b: a.transpose(0, 1) @ b.transpose(0, 1),
        {"a": normal(5, 3), "b": normal(7, 5)},
        attributes={"transposed": ["a", "b"]},
    )
    case("bmm", "bmm", lambda a, b: torch.bmm(a, b), {"a": normal(3, 2, 5), "b": normal(3, 5, 4)})
    case("outer", "outer", lambda a, b: torch.outer(a, b), {"a": normal(4), "b": normal(3)})
    for name, formula, *operands in [
        ("matmul", "ij,jk->ik", (3, 5), (5, 4)),
        ("batched", "bij,bjk->bik", (2, 3, 5), (2, 5, 4)),
        ("attention", "bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
        ("transpose_out", "ij,kj->ki", (3, 5), (4, 5)),
        ("outer", "i,j->ij", (3,), (4,)),
        ("diagonal", "ii->i", (4, 4)),
        ("trace", "ii->", (4, 4)),
        ("total", "ijk->j", (2, 3, 4)),
        ("bilinear", "bi,oij,bj->bo", (2, 3), (4, 3, 5), (2, 5)),
        ("ellipsis", "...ij,jk->...ik", (2, 1, 3, 5), (5, 4)),
        ("broadcast_batch", "bij,ij->bi", (3, 2, 5), (2, 5)),
        ("implicit", "ba,cb", (3, 4), (5, 3)),
    ]:
        inputs = {key: normal(*shape) for key, shape in zip("abc", operands)}
        case(
            "einsum",
            f"einsum_{name}",
            lambda f=formula, **given: torch.einsum(f, *given.values()),
            inputs,
            attributes={"equation": formula},
        )
    case(
        "linear",
        "linear",
        lambda x, weight, bias: F.linear(x, weight, bias),
        {"x": normal(3, 5)},
        {"weight": normal(7, 5), "bias": normal(7)},
    )
    case("linear", "linear_no_bias_3d", lambda x, weight: F.linear(x, weight), {"x": normal(2, 3, 5)}, {"weight": normal(1, 5)})
    case(
        "bilinear",
        "bilinear",
        lambda a, b, weight, bias: F.bilinear(a, b, weight, bias),
        {"a": normal(3, 4), "b": normal(3, 5)},
        {"weight": normal(2, 4, 5), "bias": normal(2)},
    )
    case(
        "cosine_similarity",
        "cosine_similarity",
        lambda a, b: F.cosine_similarity(a, b, 1),
        {"a": normal(3, 5), "b": normal(3, 5)},
        attributes={"dim": 1, "eps": 1e-8},
    )
    case("normalize", "normalize", lambda x: F.normalize(x, 2.0, 1), {"x": normal(3, 5)}, attributes={"p": 2.0, "dim": 1, "eps": 1e-12})
