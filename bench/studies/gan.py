"""The training steps of `dcgan`, `cgan`, `acgan`, `wgan` and `wgan-gp` in PyTorch: `gan.py NAME`: a step of each player, and of
the average of the generator's weights."""
import copy
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import measure

BATCH, LATENT, WIDTH, DECAY = 32, 100, 32, 0.995
NAME = sys.argv.pop(1)
CRITIC = NAME.startswith("wgan")
CLASSES = 10 if NAME in ("cgan", "acgan") else 0
ANSWERS = {"cgan": 10, "acgan": 11}.get(NAME, 1)


def bce(logits, target):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def tell_apart(d, real, fake, hot):
    on_real, on_fake = d(real), d(fake)
    if NAME == "dcgan":
        return bce(on_real, 1.0) + bce(on_fake, 0.0)
    if NAME == "cgan":
        return F.binary_cross_entropy_with_logits(on_real, hot) + bce(on_fake, 0.0)
    if NAME == "acgan":
        named = F.cross_entropy(on_real[:, 1:], hot) + F.cross_entropy(on_fake[:, 1:], hot)
        return bce(on_real[:, :1], 1.0) + bce(on_fake[:, :1], 0.0) + named
    apart = on_fake.mean() - on_real.mean()
    if NAME == "wgan":
        return apart
    between = torch.lerp(real, fake, torch.rand(BATCH, 1, 1, 1)).requires_grad_()
    slope, = torch.autograd.grad(d(between).sum(), between, create_graph=True)
    slope = (slope.square().sum((1, 2, 3)) + 1e-12).sqrt()
    return apart + 10 * (slope - 1).square().mean()


def fool(answers, hot):
    if NAME == "dcgan":
        return bce(answers, 1.0)
    if NAME == "cgan":
        return F.binary_cross_entropy_with_logits(answers, hot)
    if NAME == "acgan":
        return bce(answers[:, :1], 1.0) + F.cross_entropy(answers[:, 1:], hot)
    return -answers.mean()


if __name__ == "__main__":
    w = WIDTH
    g = nn.Sequential(
        nn.Linear(LATENT + CLASSES, 2 * w * 49), nn.Unflatten(1, (2 * w, 7, 7)), nn.BatchNorm2d(2 * w), nn.ReLU(),
        nn.ConvTranspose2d(2 * w, w, 4, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
        nn.ConvTranspose2d(w, 1, 4, 2, 1), nn.Tanh())
    norm = nn.Identity() if CRITIC else nn.BatchNorm2d(2 * w)
    d = nn.Sequential(
        nn.Conv2d(1, w, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(w, 2 * w, 4, 2, 1), norm, nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(2 * w * 49, ANSWERS))
    if NAME == "wgan":
        g_step, d_step = torch.optim.RMSprop(g.parameters(), 2e-4), torch.optim.RMSprop(d.parameters(), 2e-4)
    else:
        g_step, d_step = (torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999)) for m in (g, d))
    average = copy.deepcopy(g)
    grey, hot = torch.rand(BATCH, 1, 28, 28), F.one_hot(torch.randint(0, 10, (BATCH,)), 10).float()

    def step():
        real, z = grey * 2 - 1, torch.randn(BATCH, LATENT)
        fake = g(torch.cat([z, hot], 1) if CLASSES else z)
        d_loss = tell_apart(d, real, fake.detach(), hot)
        d_step.zero_grad()
        d_loss.backward()
        d_step.step()
        if NAME == "wgan":
            with torch.no_grad():
                for p in d.parameters():
                    p.clamp_(-0.01, 0.01)
        g_loss = fool(d(fake), hot)
        g_step.zero_grad()
        g_loss.backward()
        g_step.step()
        with torch.no_grad():
            for a, p in zip(average.parameters(), g.parameters()):
                a.lerp_(p, 1 - DECAY)
            for a, b in zip(average.buffers(), g.buffers()):
                a.copy_(b)
        return d_loss.item(), g_loss.item()

    measure(NAME, step)
