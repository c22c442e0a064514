"""The training step of `ddpm` in PyTorch: the step of the net, and of the average of its weights."""
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import measure

BATCH, STEPS, WIDTH, DECAY, UNTOLD = 64, 250, 2, 0.999, 0.2


class Block(nn.Module):
    def __init__(self, a, b, condition):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, a), nn.Conv2d(a, b, 3, padding=1)
        self.condition = nn.Linear(condition, 2 * b)
        self.norm2, self.conv2 = nn.GroupNorm(8, b, affine=False), nn.Conv2d(b, b, 3, padding=1)
        self.shortcut = nn.Conv2d(a, b, 1) if a != b else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x, told):
        scale, shift = self.condition(told)[:, :, None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h) * (1 + scale) + shift
        return self.conv2(F.silu(h)) + self.shortcut(x)


class UNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        n, e = 4 * c, 8 * c
        place = torch.arange(STEPS + 1)[:, None] * torch.exp(-math.log(1e4) * torch.arange(0, n, 2) / n)
        self.register_buffer("sinusoids", torch.stack([place.sin(), place.cos()], -1).flatten(1))
        self.time1, self.time2, self.classes = nn.Linear(n, e), nn.Linear(e, e), nn.Embedding(11, e)
        self.stem, self.down1 = nn.Conv2d(4, c, 3, padding=1), Block(c, c, e)
        self.shrink, self.down2 = nn.Conv2d(4 * c, n, 1), Block(n, n, e)
        self.middle, self.up2 = Block(n, n, e), Block(2 * n, n, e)
        self.enlarge, self.up1 = nn.Conv2d(n, 4 * c, 1), Block(2 * c, c, e)
        self.norm, self.out = nn.GroupNorm(8, c), nn.Conv2d(c, 4, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x, t, classes):
        told = F.silu(self.time2(F.silu(self.time1(self.sinusoids[t]))) + self.classes(classes))
        wide = self.down1(self.stem(F.pixel_unshuffle(x, 2)), told)
        narrow = self.down2(self.shrink(F.pixel_unshuffle(wide, 2)), told)
        h = self.up2(torch.cat([self.middle(narrow, told), narrow], 1), told)
        h = self.up1(torch.cat([F.pixel_shuffle(self.enlarge(h), 2), wide], 1), told)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), 2)


if __name__ == "__main__":
    net = UNet(8 * WIDTH)
    average = copy.deepcopy(net)
    optimiser = torch.optim.Adam(net.parameters(), 4e-3)
    grey, labels = torch.rand(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    f = lambda t: torch.cos((t / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2
    kept = (f(torch.arange(STEPS + 1)) / f(torch.tensor(0.0))).clamp(1e-8, 1)

    def step():
        x, noise, t = grey * 2 - 1, torch.randn(BATCH, 1, 28, 28), 1 + (((torch.arange(BATCH) / BATCH + torch.rand(1)) % 1) * STEPS).long().clamp(0, STEPS - 1)
        told = torch.where(torch.rand(BATCH) < UNTOLD, 10, labels)
        alpha, sigma = (part.sqrt()[:, None, None, None] for part in (kept[t], 1 - kept[t]))
        loss = F.mse_loss(net(x * alpha + noise * sigma, t, told), noise * alpha - x * sigma)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for a, p in zip(average.parameters(), net.parameters()):
                a.lerp_(p, 1 - DECAY)
        return loss.item()

    measure("ddpm", step)
