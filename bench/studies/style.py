"""The step of `style` in PyTorch."""
import torch
import torch.nn.functional as F

from common import measure
from vgg_blocks import Vgg

SIDE = 256 + 2 * 16


def gram(f):
    flat = f.flatten(2)[0]
    return flat @ flat.t() / flat.shape[1]


def distance(x, y):
    return (x - y).square().sum() / y.square().sum()


if __name__ == "__main__":
    vgg = Vgg(F.avg_pool2d).requires_grad_(False)
    photograph, painting = torch.rand(1, 3, SIDE, SIDE), torch.rand(1, 3, SIDE, SIDE)
    content = vgg(photograph)[7]
    grams = [gram(f) for f in vgg(painting)[::2]]
    x = photograph.clone().requires_grad_()
    optimiser = torch.optim.Adam([x], 0.02)

    def step():
        seen = vgg(x)
        style = sum(distance(gram(f), g) for f, g in zip(seen[::2], grams)) / 4
        rough = (x[..., 1:, :] - x[..., :-1, :]).square().mean() + (x[..., 1:] - x[..., :-1]).square().mean()
        loss = distance(seen[7], content) + 10 * style + 5 * rough
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            x.clamp_(0, 1)
        return loss.item()

    measure("style", step)
