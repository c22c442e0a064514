"""The training step of `emoji` in PyTorch."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from common import measure
from vgg_blocks import Vgg

BATCH, SIDE = 48, 48


def maps(scale, turn, mirror, x, y):
    cos, sin = turn.cos() * scale, turn.sin() * scale
    theta = torch.stack([cos * mirror, -sin, x, sin * mirror, cos, y], 1).reshape(-1, 2, 3)
    return F.affine_grid(theta, (BATCH, 3, SIDE, SIDE), align_corners=False)


def between(low, high):
    return torch.rand(BATCH) * (high - low) + low


def side():
    return torch.bernoulli(torch.full((BATCH,), 0.5)) * 2 - 1


if __name__ == "__main__":
    vgg, group, photograph = Vgg(F.max_pool2d, norm=True), nn.Linear(192, 95), nn.Linear(192, 9)
    model = nn.ModuleList([vgg, group, photograph])
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=5e-2)
    emoji, photographs, labels = torch.rand(BATCH, 4, 64, 64), torch.rand(9, 3, 256, 256), torch.randint(0, 95, (BATCH,))

    def step():
        number, scale = torch.randint(0, 9, (BATCH,)), between(0.2, 0.7)
        grid = maps(scale, between(-0.3, 0.3), side(), between(-1, 1) * (1 - scale), between(-1, 1) * (1 - scale))
        behind = F.grid_sample(photographs[number], grid, padding_mode="reflection", align_corners=False)
        laid = torch.cat([emoji[:, :3] * emoji[:, 3:], emoji[:, 3:]], 1)
        grid = maps(between(0.85, 1.8), between(-0.4, 0.4), side(), between(-0.3, 0.3), between(-0.3, 0.3))
        laid = F.grid_sample(laid, grid, align_corners=False)
        x = laid[:, :3] + behind * (1 - laid[:, 3:])
        x = (x * (torch.rand(BATCH, 3, 1, 1) * 0.4 + 0.8) + (torch.rand(BATCH, 3, 1, 1) * 0.2 - 0.1)).clamp(0, 1)
        seen = F.dropout(vgg(x)[-1].mean((2, 3)), 0.2)
        loss = F.cross_entropy(group(seen), labels) + F.cross_entropy(photograph(seen), number)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    measure("emoji", step)
