"""The training step of `music` in PyTorch."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from common import measure

BATCH, LENGTH, VOCABULARY, WIDTH, UNITS = 8, 100, 83, 256, 1024

if __name__ == "__main__":
    embed, lstm, head = nn.Embedding(VOCABULARY, WIDTH), nn.LSTM(WIDTH, UNITS, batch_first=True), nn.Linear(UNITS, VOCABULARY)
    model = nn.ModuleList([embed, lstm, head])
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    text = torch.randint(0, VOCABULARY, (300_000,))

    def step():
        place = torch.randint(0, len(text) - LENGTH - 1, (BATCH, 1)) + torch.arange(LENGTH + 1)
        drawn = text[place]
        h, _ = lstm(embed(drawn[:, :-1]))
        loss = F.cross_entropy(head(h).flatten(0, 1), drawn[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        return loss.item()

    measure("music", step)
