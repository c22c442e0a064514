"""The training step of `captcha-ctc` in PyTorch: convolutions, an LSTM in both directions, CTC over three to six characters."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from captcha import stages
from common import measure

BATCH, LONGEST, N, CHANNELS, UNITS, HEIGHT, WIDTH = 16, 6, 62, 32, 128, 32, 144

if __name__ == "__main__":
    c = CHANNELS
    trunk = stages([c, 2 * c, 4 * c, 4 * c], [2, 2, (2, 1), (4, 1)])
    lstm, head = nn.LSTM(4 * c, UNITS, bidirectional=True, batch_first=True), nn.Linear(2 * UNITS, 1 + N)
    parameters = [p for module in (trunk, lstm, head) for p in module.parameters()]
    optimiser = torch.optim.Adam(parameters, 2e-3)
    x, labels = torch.rand(BATCH, 1, HEIGHT, WIDTH), torch.randint(1, 1 + N, (BATCH, LONGEST))
    lengths = torch.randint(3, LONGEST + 1, (BATCH,))

    def step():
        columns = head(lstm(trunk(1 - x).squeeze(2).transpose(1, 2))[0]).log_softmax(-1).transpose(0, 1)
        loss = F.ctc_loss(columns, labels, torch.full((BATCH,), columns.shape[0]), lengths)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        return loss.item()

    measure("captcha-ctc", step)
