"""The training step of `vae` in PyTorch."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from common import measure

BATCH, HIDDEN, LATENT = 100, 400, 20

if __name__ == "__main__":
    encoder, mean, log_variance = nn.Linear(784, HIDDEN), nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
    decoder, pixels = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, 784)
    model = nn.ModuleList([encoder, mean, log_variance, decoder, pixels])
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    grey = torch.rand(BATCH, 784)

    def step():
        x = torch.bernoulli(grey)
        h = F.relu(encoder(x))
        m, v = mean(h), log_variance(h)
        z = m + (0.5 * v).exp() * torch.randn_like(m)
        logits = pixels(F.relu(decoder(z)))
        kl = 0.5 * (m * m + v.exp() - 1 - v).sum()
        loss = (kl + F.binary_cross_entropy_with_logits(logits, x, reduction="sum")) / BATCH
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    measure("vae", step)
