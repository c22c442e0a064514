"""The network of `style` and `dream` in PyTorch: four blocks of two convolutions, a pool between two blocks."""
import torch.nn as nn
import torch.nn.functional as F

WIDTHS = [32, 64, 128, 192]


class Vgg(nn.Module):
    def __init__(self, pool, norm=False):
        super().__init__()
        self.pool, channels = pool, 3
        self.blocks = nn.ModuleList()
        for width in WIDTHS:
            block = nn.ModuleList()
            for _ in range(2):
                block.append(nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width) if norm else nn.Identity()))
                channels = width
            self.blocks.append(block)

    def forward(self, x):
        """The features of every layer: relu1_1 first."""
        x, seen = (x - 0.5) / 0.25, []
        for number, block in enumerate(self.blocks):
            if number:
                x = self.pool(x, 2)
            for layer in block:
                x = F.relu(layer(x))
                seen.append(x)
        return seen
