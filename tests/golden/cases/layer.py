"""Whole small models: the names of a state dict, and gradients through several layers."""

import torch.nn.functional as F
from torch import nn

from recorder import integers, normal


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling, on 12 x 12 pictures."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 5, padding=2)
        self.conv2 = nn.Conv2d(3, 4, 3)
        self.fc1 = nn.Linear(16, 6)
        self.fc2 = nn.Linear(6, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Residual(nn.Module):
    """A ResNet basic block with a projected shortcut."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.downsample = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2, bias=False), nn.BatchNorm2d(4))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Characters(nn.Module):
    """Embedding, LSTM, linear head: a next-character model."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.head = nn.Linear(5, 7)

    def forward(self, x):
        return self.head(self.lstm(self.embed(x))[0])


def record(recorder):
    recorder.module("linear", "layer_linear", lambda: nn.Linear(5, 3), {"x": normal(4, 5)})
    recorder.module("embedding", "layer_embedding", lambda: nn.Embedding(6, 4), {"index": integers(3, 2, high=6)})
    recorder.module("conv2d", "layer_conv2d", lambda: nn.Conv2d(2, 4, 3, padding=1), {"x": normal(1, 2, 5, 4)}, attributes={"padding": 1})
    recorder.module(
        "conv2d",
        "layer_conv2d_reflect",
        lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
        {"x": normal(1, 2, 4, 5)},
        attributes={"padding": 1, "padding_mode": "reflect"},
    )
    recorder.module("prelu", "layer_prelu", lambda: nn.PReLU(3), {"x": normal(2, 3, 4)})
    recorder.module(
        "sequential",
        "model_sequential",
        lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 2)),
        {"x": normal(3, 4)},
    )
    recorder.module("lenet", "model_lenet", LeNet, {"x": normal(2, 1, 12, 12)})
    after = [
        f"{layer}.{name}" for layer in ["bn1", "bn2", "downsample.1"] for name in ["running_mean", "running_var", "num_batches_tracked"]
    ]
    for training in [True, False]:
        recorder.module(
            "residual",
            f"model_residual_{'train' if training else 'eval'}",
            Residual,
            {"x": normal(3, 3, 6, 6)},
            train=training,
            after=after,
        )
    recorder.module("characters", "model_characters", Characters, {"x": integers(2, 6, high=7)})
