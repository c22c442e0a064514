"""Fifty learning rates of every schedule, in float64: element k is the rate used in step k, counted from zero."""

import torch
from torch.optim import lr_scheduler as schedules

STEPS = 50

# name, schedule, base rate, options
RUNS = [
    ("step", "StepLR", 0.1, {"step_size": 7, "gamma": 0.5}),
    ("multi_step", "MultiStepLR", 0.1, {"milestones": [5, 12, 13, 40], "gamma": 0.3}),
    ("exponential", "ExponentialLR", 0.1, {"gamma": 0.93}),
    ("cosine", "CosineAnnealingLR", 0.1, {"T_max": 49, "eta_min": 0.001}),
    ("cosine_past_the_end", "CosineAnnealingLR", 0.1, {"T_max": 20, "eta_min": 0.0}),
    ("cosine_restarts", "CosineAnnealingWarmRestarts", 0.1, {"T_0": 8, "T_mult": 1, "eta_min": 0.001}),
    ("cosine_restarts_longer", "CosineAnnealingWarmRestarts", 0.1, {"T_0": 5, "T_mult": 2, "eta_min": 0.0}),
    ("linear_warm_up", "LinearLR", 0.1, {"start_factor": 0.1, "end_factor": 1.0, "total_iters": 10}),
    ("constant_warm_up", "ConstantLR", 0.1, {"factor": 0.25, "total_iters": 6}),
    ("one_cycle", "OneCycleLR", 0.1, {"max_lr": 0.1, "total_steps": 50, "pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4, "anneal_strategy": "cos"}),
    ("one_cycle_linear", "OneCycleLR", 0.1, {"max_lr": 0.2, "total_steps": 50, "pct_start": 0.25, "div_factor": 10.0, "final_div_factor": 100.0, "anneal_strategy": "linear"}),
    ("one_cycle_three_phases", "OneCycleLR", 0.1, {"max_lr": 0.1, "total_steps": 50, "pct_start": 0.4, "div_factor": 25.0, "final_div_factor": 1e4, "anneal_strategy": "cos", "three_phase": True}),
    ("polynomial", "PolynomialLR", 0.1, {"total_iters": 40, "power": 2.0}),
    ("polynomial_linear", "PolynomialLR", 0.1, {"total_iters": 50, "power": 1.0}),
]  # fmt: skip

# Losses for the plateau: falling, then flat, then a little better, then flat again.
LOSSES = [2.0 - 0.1 * k for k in range(10)] + [1.1 + 0.001 * (k % 3) for k in range(15)] + [1.0] * 10 + [0.9999] * 15


def optimiser(rate):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate, momentum=0.9)


def rates(step, advance):
    """The rate before each step, `advance(k)` being called after step k."""
    found = []
    for number in range(STEPS):
        found.append(float(step.param_groups[0]["lr"]))
        step.step()
        if number + 1 < STEPS:
            advance(number)
    return torch.tensor(found, dtype=torch.float64)


def record(recorder):
    for name, kind, rate, options in RUNS:
        step = optimiser(rate)
        schedule = getattr(schedules, kind)(step, **options)
        found = rates(step, lambda number: schedule.step())
        recorder.file(kind, f"schedule_{name}", {"lr": rate, **options}, {"output/lr": found}, 0.0)
    for name, options in [
        ("plateau", {"mode": "min", "factor": 0.5, "patience": 3, "threshold": 1e-4, "threshold_mode": "rel", "cooldown": 0, "min_lr": 0.0, "eps": 1e-8}),
        ("plateau_cooldown", {"mode": "min", "factor": 0.1, "patience": 2, "threshold": 1e-3, "threshold_mode": "abs", "cooldown": 4, "min_lr": 1e-3, "eps": 1e-8}),
    ]:  # fmt: skip
        step = optimiser(0.1)
        schedule = schedules.ReduceLROnPlateau(step, **options)
        found = rates(step, lambda number: schedule.step(LOSSES[number]))
        given = torch.tensor(LOSSES, dtype=torch.float64)
        recorder.file("ReduceLROnPlateau", f"schedule_{name}", {"lr": 0.1, **options}, {"in/losses": given, "output/lr": found}, 0.0)

    def noam(number, width=64, warm_up=12):
        """Vaswani et al., 2017, section 5.3, with steps counted from one (no such class in PyTorch)."""
        return width**-0.5 * min((number + 1) ** -0.5, (number + 1) * warm_up**-1.5)

    step = optimiser(2.0)
    schedule = schedules.LambdaLR(step, noam)
    attributes = {"lr": 2.0, "d_model": 64, "warm_up": 12}
    recorder.file("Noam", "schedule_noam", attributes, {"output/lr": rates(step, lambda number: schedule.step())}, 0.0)

    step = optimiser(0.1)
    parts = [schedules.LinearLR(step, start_factor=0.05, total_iters=10), schedules.CosineAnnealingLR(step, T_max=40, eta_min=0.001)]
    schedule = schedules.SequentialLR(step, parts, milestones=[10])
    attributes = {
        "lr": 0.1, "milestones": [10],
        "schedules": [["LinearLR", {"start_factor": 0.05, "end_factor": 1.0, "total_iters": 10}], ["CosineAnnealingLR", {"T_max": 40, "eta_min": 0.001}]],
    }  # fmt: skip
    recorder.file("SequentialLR", "schedule_sequential", attributes, {"output/lr": rates(step, lambda number: schedule.step())}, 0.0)

    step = optimiser(0.1)
    parts = [schedules.ExponentialLR(step, gamma=0.97), schedules.StepLR(step, step_size=15, gamma=0.4)]
    attributes = {"lr": 0.1, "schedules": [["ExponentialLR", {"gamma": 0.97}], ["StepLR", {"step_size": 15, "gamma": 0.4}]]}

    def both(number):
        for part in parts:
            part.step()

    recorder.file("ChainedScheduler", "schedule_chained", attributes, {"output/lr": rates(step, both)}, 0.0)
