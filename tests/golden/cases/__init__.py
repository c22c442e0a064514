"""The golden cases: one module a group, each with a function `record(recorder)`."""

GROUPS = [
    "elementwise", "reduce", "movement", "contract", "convolution", "pool", "resize", "norm", "attention",
    "recurrent", "layer", "loss", "optimiser", "schedule",
]  # fmt: skip
