"""The training step of `captcha` in PyTorch: four characters of 62 at once, a dense layer on the pixels beside the network."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from common import measure

BATCH, LENGTH, N, CHANNELS, UNITS, HEIGHT, WIDTH = 16, 4, 62, 32, 512, 32, 96


def stages(channels, pools):
    layers = []
    for i, o, pool in zip([1] + channels, channels, pools):
        layers += [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(pool)]
    return nn.Sequential(*layers)


if __name__ == "__main__":
    c = CHANNELS
    reader = nn.Sequential(
        stages([c, 2 * c, 4 * c, 4 * c], [2] * 4), nn.Flatten(), nn.Linear(4 * c * HEIGHT // 16 * WIDTH // 16, UNITS), nn.ReLU(),
        nn.Linear(UNITS, LENGTH * N))
    plain = nn.Linear(HEIGHT * WIDTH, LENGTH * N)
    optimiser = torch.optim.Adam([*reader.parameters(), *plain.parameters()], 1e-3)
    x, truth = torch.rand(BATCH, 1, HEIGHT, WIDTH), torch.randint(0, N, (BATCH * LENGTH,))

    def step():
        v = F.one_hot(truth, N).float().view(BATCH, LENGTH * N)
        z = reader(1 - x)
        loss = F.binary_cross_entropy_with_logits(z, v)
        beside = F.binary_cross_entropy_with_logits(plain(x.flatten(1)), v)
        optimiser.zero_grad()
        (loss + beside).backward()
        optimiser.step()
        right = (z.detach().view(-1, N).argmax(1) == truth).float().mean()
        return loss.item(), beside.item(), right.item()

    measure("captcha", step)
