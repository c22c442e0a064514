"""Losses, each with its reductions and options."""

import torch
import torch.nn.functional as F

from recorder import distribution, integers, normal, uniform, values

REDUCTIONS = ["mean", "sum", "none"]


def regression(case):
    """Losses between two tensors of real values."""
    table = [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {"beta": 1.0}),
        ("smooth_l1_loss", {"beta": 0.4}),
        ("huber_loss", {"delta": 1.0}),
        ("huber_loss", {"delta": 0.7}),
    ]
    for operation, options in table:
        for reduction in REDUCTIONS:
            attributes = {"reduction": reduction, **options}
            tag = "".join(f"_{value}" for value in options.values()).replace(".", "p")
            case(
                operation,
                f"{operation}{tag}_{reduction}",
                lambda input, target, f=getattr(F, operation), a=attributes: f(input, target, **a),
                {"input": normal(3, 5, scale=1.5), "target": normal(3, 5)},
                attributes=attributes,
            )
    for full in [False, True]:
        for reduction in ["mean", "none"]:
            attributes = {"full": full, "eps": 1e-6, "reduction": reduction}
            case(
                "gaussian_nll_loss",
                f"gaussian_nll_loss_{'full' if full else 'short'}_{reduction}",
                lambda input, target, var, a=attributes: F.gaussian_nll_loss(input, target, var, **a),
                {"input": normal(3, 5), "target": normal(3, 5), "var": uniform(3, 5, low=0.3, high=2.0)},
                attributes=attributes,
            )


def two_classes(case):
    """Binary cross-entropy, from probabilities and from logits, with weights."""
    probability = uniform(3, 5, low=0.05, high=0.95)
    for reduction in REDUCTIONS:
        attributes = {"reduction": reduction}
        case(
            "binary_cross_entropy",
            f"bce_{reduction}",
            lambda input, target, a=attributes: F.binary_cross_entropy(input, target, **a),
            {"input": probability, "target": uniform(3, 5, low=0.0, high=1.0)},
            attributes=attributes,
        )
        case(
            "binary_cross_entropy_with_logits",
            f"bce_with_logits_{reduction}",
            lambda input, target, a=attributes: F.binary_cross_entropy_with_logits(input, target, **a),
            {"input": normal(3, 5, scale=3.0), "target": uniform(3, 5, low=0.0, high=1.0)},
            attributes=attributes,
        )
    case(
        "binary_cross_entropy",
        "bce_weight",
        lambda input, target, weight: F.binary_cross_entropy(input, target, weight),
        {"input": probability, "target": uniform(3, 5, low=0.0, high=1.0), "weight": uniform(5, low=0.2, high=2.0)},
        attributes={"reduction": "mean"},
        constant=["weight"],
    )
    case(
        "binary_cross_entropy",
        "bce_certain",
        lambda input, target: F.binary_cross_entropy(input, target, reduction="none"),
        {"input": values([0.0, 1.0, 0.0, 1.0]), "target": values([0.0, 1.0, 1.0, 0.0])},
        attributes={"reduction": "none"},
        constant=["input", "target"],
    )
    case(
        "binary_cross_entropy_with_logits",
        "bce_with_logits_pos_weight",
        lambda input, target, pos_weight: F.binary_cross_entropy_with_logits(input, target, pos_weight=pos_weight),
        {"input": normal(3, 5), "target": uniform(3, 5, low=0.0, high=1.0), "pos_weight": uniform(5, low=0.5, high=3.0)},
        attributes={"reduction": "mean"},
        constant=["pos_weight"],
    )
    case(
        "binary_cross_entropy_with_logits",
        "bce_with_logits_large",
        lambda input, target: F.binary_cross_entropy_with_logits(input, target, reduction="none"),
        {"input": values([-200.0, -90.0, 90.0, 200.0]), "target": values([0.0, 1.0, 0.0, 1.0])},
        attributes={"reduction": "none"},
    )


def many_classes(case):
    """Cross-entropy with integer and probability targets, and negative log-likelihood."""
    logits, weight = normal(4, 5, scale=2.0), uniform(5, low=0.3, high=2.0)
    labels = integers(4, high=5)
    ignoring = values([2, -100, 0, 4], torch.int64)
    for reduction in REDUCTIONS:
        for smoothing in [0.0, 0.1]:
            attributes = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": -100}
            tag = reduction + ("_smoothed" if smoothing else "")
            case(
                "cross_entropy",
                f"cross_entropy_{tag}",
                lambda input, target, a=attributes: F.cross_entropy(input, target, **a),
                {"input": logits, "target": labels},
                attributes=attributes,
            )
            case(
                "cross_entropy",
                f"cross_entropy_weight_{tag}",
                lambda input, target, weight, a=attributes: F.cross_entropy(input, target, weight, **a),
                {"input": logits, "target": ignoring, "weight": weight},
                attributes=attributes,
                constant=["weight"],
            )
            attributes = {"reduction": reduction, "label_smoothing": smoothing}
            case(
                "cross_entropy",
                f"cross_entropy_probabilities_{tag}",
                lambda input, target, a=attributes: F.cross_entropy(input, target, **a),
                {"input": logits, "target": distribution(4, 5)},
                attributes=attributes,
            )
    case(
        "cross_entropy",
        "cross_entropy_probabilities_weight",
        lambda input, target, weight: F.cross_entropy(input, target, weight),
        {"input": logits, "target": distribution(4, 5), "weight": weight},
        attributes={"reduction": "mean"},
        constant=["weight"],
    )
    case(
        "cross_entropy",
        "cross_entropy_ignore_other_index",
        lambda input, target: F.cross_entropy(input, target, ignore_index=0),
        {"input": logits, "target": values([0, 3, 0, 1], torch.int64)},
        attributes={"reduction": "mean", "ignore_index": 0},
    )
    case(
        "cross_entropy",
        "cross_entropy_pictures",
        lambda input, target: F.cross_entropy(input, target),
        {"input": normal(2, 3, 4, 5), "target": integers(2, 4, 5, high=3)},
        attributes={"reduction": "mean"},
    )
    case(
        "cross_entropy",
        "cross_entropy_large",
        lambda input, target: F.cross_entropy(input, target, reduction="none"),
        {"input": values([[500.0, -500.0, 499.0], [-300.0, 300.0, 0.0]]), "target": values([0, 0], torch.int64)},
        attributes={"reduction": "none"},
    )
    for reduction in REDUCTIONS:
        attributes = {"reduction": reduction, "ignore_index": -100}
        case(
            "nll_loss",
            f"nll_loss_{reduction}",
            lambda input, target, a=attributes: F.nll_loss(input, target, **a),
            {"input": normal(4, 5), "target": labels},
            attributes=attributes,
        )
        case(
            "nll_loss",
            f"nll_loss_weight_{reduction}",
            lambda input, target, weight, a=attributes: F.nll_loss(input, target, weight, **a),
            {"input": normal(4, 5), "target": ignoring, "weight": weight},
            attributes=attributes,
            constant=["weight"],
        )
    for reduction in ["batchmean", *REDUCTIONS]:
        for log_target in [False, True]:
            attributes = {"reduction": reduction, "log_target": log_target}
            case(
                "kl_div",
                f"kl_div_{reduction}{'_log_target' if log_target else ''}",
                lambda input, target, a=attributes: F.kl_div(
                    F.log_softmax(input, 1), F.log_softmax(target, 1) if a["log_target"] else F.softmax(target, 1), **a
                ),
                {"input": normal(3, 5), "target": normal(3, 5)},
                attributes={
                    **attributes,
                    "input": "log_softmax(input, 1)",
                    "target": ("log_" if log_target else "") + "softmax(target, 1)",
                },
            )
    case(
        "poisson_nll_loss",
        "poisson_nll_loss",
        lambda input, target: F.poisson_nll_loss(input, target),
        {"input": normal(3, 5), "target": uniform(3, 5, low=0.0, high=4.0)},
        attributes={"log_input": True, "full": False, "reduction": "mean"},
    )


def margins(case):
    """Losses that push apart or together."""
    signs = values([1.0, -1.0, -1.0, 1.0])
    for reduction in REDUCTIONS:
        attributes = {"margin": 1.0, "reduction": reduction}
        case(
            "hinge_embedding_loss",
            f"hinge_embedding_loss_{reduction}",
            lambda input, target, a=attributes: F.hinge_embedding_loss(input, target, **a),
            {"input": normal(3, 4), "target": signs},
            attributes=attributes,
            constant=["target"],
        )
        attributes = {"margin": 0.2, "reduction": reduction}
        case(
            "cosine_embedding_loss",
            f"cosine_embedding_loss_{reduction}",
            lambda a, b, target, o=attributes: F.cosine_embedding_loss(a, b, target, **o),
            {"a": normal(4, 5), "b": normal(4, 5), "target": signs},
            attributes=attributes,
            constant=["target"],
        )
        case(
            "margin_ranking_loss",
            f"margin_ranking_loss_{reduction}",
            lambda a, b, target, o=attributes: F.margin_ranking_loss(a, b, target, **o),
            {"a": normal(4), "b": normal(4), "target": signs},
            attributes=attributes,
            constant=["target"],
        )
        attributes = {"margin": 1.0, "p": 2.0, "eps": 1e-6, "swap": False, "reduction": reduction}
        triplet = {"anchor": normal(4, 5), "positive": normal(4, 5), "negative": normal(4, 5)}
        case(
            "triplet_margin_loss",
            f"triplet_margin_loss_{reduction}",
            lambda anchor, positive, negative, a=attributes: F.triplet_margin_loss(anchor, positive, negative, **a),
            triplet,
            attributes=attributes,
        )
        for p in [1, 2]:
            attributes = {"p": p, "margin": 1.0, "reduction": reduction}
            case(
                "multi_margin_loss",
                f"multi_margin_loss_p{p}_{reduction}",
                lambda input, target, a=attributes: F.multi_margin_loss(input, target, **a),
                {"input": normal(4, 5), "target": integers(4, high=5)},
                attributes=attributes,
            )
        case(
            "hinge_loss",
            f"hinge_loss_{reduction}",
            lambda input, target, r=reduction: reduce(F.relu(1.0 - input * target), r),
            {"input": normal(3, 4), "target": signs},
            attributes={"margin": 1.0, "reduction": reduction},
            constant=["target"],
        )
    attributes = {"margin": 0.5, "p": 2.0, "eps": 1e-6, "swap": True, "reduction": "mean"}
    case(
        "triplet_margin_loss",
        "triplet_margin_loss_swap",
        lambda anchor, positive, negative: F.triplet_margin_loss(anchor, positive, negative, margin=0.5, swap=True),
        triplet,
        attributes=attributes,
    )

    def nt_xent(first, second, temperature):
        """Chen et al., 2020: 2N views, each to find the other view of its picture among 2N - 1 (no such function in PyTorch)."""
        views = F.normalize(torch.cat([first, second]), dim=1)
        scores = views @ views.T / temperature
        scores = scores.masked_fill(torch.eye(len(views), dtype=torch.bool), float("-inf"))
        count = len(first)
        return F.cross_entropy(scores, (torch.arange(2 * count) + count) % (2 * count))

    case(
        "nt_xent",
        "nt_xent",
        lambda a, b: nt_xent(a, b, 0.5),
        {"a": normal(4, 6), "b": normal(4, 6)},
        attributes={"temperature": 0.5, "reduction": "mean"},
    )


def reduce(value, reduction):
    return {"mean": torch.mean, "sum": torch.sum, "none": lambda v: v}[reduction](value)


def sequences(case):
    """CTC. The gradient is taken at the logits, since PyTorch's own gradient at log-probabilities presumes a log_softmax before it."""
    lengths = {"input_lengths": values([7, 7, 5], torch.int64), "target_lengths": values([3, 1, 2], torch.int64)}
    target = values([[1, 2, 2], [3, 0, 0], [4, 1, 0]], torch.int64)

    def ctc(logits, targets, input_lengths, target_lengths, options):
        return F.ctc_loss(F.log_softmax(logits, -1), targets, input_lengths, target_lengths, **options)

    for reduction in REDUCTIONS:
        options = {"blank": 0, "reduction": reduction, "zero_infinity": False}
        case(
            "ctc_loss",
            f"ctc_loss_{reduction}",
            lambda o=options, **given: ctc(**given, options=o),
            {"logits": normal(7, 3, 5), "targets": target, **lengths},
            attributes=options,
        )
    options = {"blank": 4, "reduction": "none", "zero_infinity": False}
    case(
        "ctc_loss",
        "ctc_loss_other_blank",
        lambda **given: ctc(**given, options=options),
        {
            "logits": normal(6, 2, 5),
            "targets": values([[0, 0, 1], [3, 2, 3]], torch.int64),
            "input_lengths": values([6, 6], torch.int64),
            "target_lengths": values([3, 3], torch.int64),
        },
        attributes=options,
    )
    # The second target (two equal labels need a blank between) cannot fit into two steps; the third is empty.
    impossible = {"blank": 0, "reduction": "none", "zero_infinity": True}
    case(
        "ctc_loss",
        "ctc_loss_impossible_and_empty",
        lambda **given: ctc(**given, options=impossible),
        {
            "logits": normal(4, 3, 5),
            "targets": values([[1, 2], [3, 3], [0, 0]], torch.int64),
            "input_lengths": values([4, 2, 3], torch.int64),
            "target_lengths": values([2, 2, 0], torch.int64),
        },
        attributes=impossible,
    )


def record(recorder):
    regression(recorder.case)
    two_classes(recorder.case)
    many_classes(recorder.case)
    margins(recorder.case)
    sequences(recorder.case)
