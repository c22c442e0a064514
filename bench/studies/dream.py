"""The step of `dream`, at its largest size, in PyTorch."""
import torch
import torch.nn.functional as F

from common import measure
from vgg_blocks import Vgg

SIDE, BANDS = 256, 4


def even(g):
    return g / (g.abs().mean((1, 2, 3), keepdim=True) + 1e-12)


def levelled(g, bands):
    if bands == 0:
        return even(g)
    coarse = F.avg_pool2d(g, 2)
    larger = lambda x: F.interpolate(x, g.shape[2:], mode="bilinear", align_corners=False)
    return even(g - larger(coarse)) + larger(levelled(coarse, bands - 1))


if __name__ == "__main__":
    vgg = Vgg(F.max_pool2d).requires_grad_(False)
    x = torch.rand(1, 3, SIDE, SIDE)

    def step():
        global x
        shift = torch.randint(0, SIDE, (2,)).tolist()
        variable = x.requires_grad_()
        seen = vgg(variable.roll(shift, (2, 3)))[6]
        energy = seen.square().mean()
        (g,) = torch.autograd.grad(energy, variable)
        with torch.no_grad():
            x = (variable + even(levelled(g, BANDS)) * 0.005).clamp(0, 1).detach()
        return energy.item()

    measure("dream", step)
