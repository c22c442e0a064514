"""Twenty steps of training with every optimiser, and with clipped gradients.

One small network throughout: linear 8-16, tanh, linear 16-4, cross-entropy over twelve fixed rows.
`output/loss` holds the loss before each of the twenty steps; `output/step<k>.<name>` the weights after k steps.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recorder import difference, generator, integers, normal, randomise, to_float64

STEPS = 20
KEEP_EVERY = 5

# name, optimiser, options
RUNS = [
    ("sgd", "SGD", {"lr": 0.1}),
    ("sgd_momentum", "SGD", {"lr": 0.1, "momentum": 0.9}),
    ("sgd_momentum_dampening", "SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}),
    ("sgd_nesterov", "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("sgd_weight_decay", "SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("sgd_everything", "SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("adagrad", "Adagrad", {"lr": 0.05, "eps": 1e-10}),
    ("adagrad_decay", "Adagrad", {"lr": 0.05, "eps": 1e-10, "lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.1}),
    ("adadelta", "Adadelta", {"lr": 1.0, "rho": 0.9, "eps": 1e-6}),
    ("adadelta_weight_decay", "Adadelta", {"lr": 0.5, "rho": 0.95, "eps": 1e-4, "weight_decay": 0.01}),
    ("rmsprop", "RMSprop", {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}),
    ("rmsprop_centered", "RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-8, "centered": True}),
    ("rmsprop_momentum", "RMSprop", {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "momentum": 0.9}),
    ("rmsprop_everything", "RMSprop", {"lr": 0.005, "alpha": 0.95, "eps": 1e-6, "momentum": 0.5, "centered": True, "weight_decay": 0.01}),
    ("adam", "Adam", {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}),
    ("adam_betas", "Adam", {"lr": 0.005, "betas": [0.5, 0.99], "eps": 1e-6}),
    ("adam_weight_decay", "Adam", {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05}),
    ("adam_amsgrad", "Adam", {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "amsgrad": True}),
    ("adamw", "AdamW", {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}),
    ("adamw_strong_decay", "AdamW", {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-8, "weight_decay": 0.5}),
]  # fmt: skip


def network():
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


def train(recorder, name, operation, attributes, optimiser, before_step=None, average=None):
    """Trains once in float32 for the record and once in float64 for the error it carries.

    optimiser(model) makes the optimiser; before_step(model) may change gradients and returns a number to keep
    (`output/gradient_norm`) or nothing; average(model) makes a running average that is updated after each step.
    """
    rng = generator("optimiser")
    x, labels = normal(12, 8)(rng), integers(12, high=4)(rng)
    state = {key: randomise(key, value, rng) for key, value in network().state_dict().items()}
    results = []
    for convert in (lambda tensor: tensor, to_float64):
        model = network().double() if convert is to_float64 else network()
        model.load_state_dict({key: convert(value) for key, value in state.items()})
        step, follower = optimiser(model), average(model) if average else None
        output, losses, norms = {}, [], []
        for number in range(1, STEPS + 1):
            step.zero_grad()
            loss = F.cross_entropy(model(convert(x)), labels)
            loss.backward()
            norms.append(before_step(model) if before_step else None)
            step.step()
            losses.append(loss.detach())
            if follower:
                follower.update_parameters(model)
            if number % KEEP_EVERY == 0:
                output |= {f"output/step{number}.{key}": value.clone() for key, value in model.state_dict().items()}
                if follower:
                    kept = follower.module.state_dict().items()
                    output |= {f"output/average{number}.{key}": value.clone() for key, value in kept}
        output["output/loss"] = torch.stack(losses)
        if norms[0] is not None:
            output["output/gradient_norm"] = torch.stack(norms)
        results.append(output)
    error = max(difference(results[0][key], results[1][key]) for key in results[0])
    given = {"in/x": x, "in/labels": labels, **{f"param/{key}": value for key, value in state.items()}}
    recorder.file(operation, name, {"steps": STEPS, **attributes}, {**given, **results[0]}, error)


def record(recorder):
    for name, kind, options in RUNS:
        make = getattr(torch.optim, kind)
        train(recorder, name, kind, options, lambda m, make=make, o=options: make(m.parameters(), foreach=False, **o))

    def groups(model):
        weights = [value for key, value in model.named_parameters() if key.endswith("weight")]
        biases = [value for key, value in model.named_parameters() if key.endswith("bias")]
        return torch.optim.AdamW(
            [{"params": weights, "weight_decay": 0.1}, {"params": biases, "lr": 0.002}], lr=0.01, weight_decay=0.0, foreach=False
        )

    attributes = {
        "lr": 0.01,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.0,
        "groups": {"weight": {"weight_decay": 0.1}, "bias": {"lr": 0.002}},
    }
    train(recorder, "adamw_groups", "AdamW", attributes, groups)

    def plain(model):
        return torch.optim.SGD(model.parameters(), lr=0.5, foreach=False)

    train(
        recorder,
        "clip_by_norm",
        "SGD",
        {"lr": 0.5, "clip_norm": 0.2, "norm_type": 2.0},
        plain,
        lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.2, foreach=False).detach(),
    )

    def clip_value(model):
        nn.utils.clip_grad_value_(model.parameters(), 0.01, foreach=False)

    train(recorder, "clip_by_value", "SGD", {"lr": 0.5, "clip_value": 0.01}, plain, clip_value)
    train(
        recorder,
        "average_of_weights",
        "SGD",
        {"lr": 0.5, "average_decay": 0.9},
        plain,
        average=lambda model: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    )
