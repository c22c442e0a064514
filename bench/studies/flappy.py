"""The training step of `flappy` in PyTorch: eight birds choose their moves, then Double DQN on a batch of 32."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import measure

BIRDS, BATCH, SIDE = 8, 32, 80


if __name__ == "__main__":
    network = nn.Sequential(
        nn.Conv2d(4, 16, 8, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 8 * 8, 256), nn.ReLU(), nn.Linear(256, 2))
    target = copy.deepcopy(network)
    optimiser = torch.optim.Adam(network.parameters(), 5e-4, eps=1e-4)

    def pixels(n):
        return torch.randint(0, 2, (n, 4, SIDE, SIDE), dtype=torch.uint8)

    now, states, later = pixels(BIRDS), pixels(BATCH), pixels(BATCH)
    actions = torch.randint(0, 2, (BATCH, 1))
    returns, discounts = torch.rand(BATCH, 1), torch.rand(BATCH, 1)

    def step():
        with torch.no_grad():
            network(now.float()).tolist()
            best = network(later.float()).argmax(1, keepdim=True)
            label = returns + discounts * target(later.float()).gather(1, best)
        q = network(states.float()).gather(1, actions)
        loss = F.huber_loss(q, label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    measure("flappy", step)
