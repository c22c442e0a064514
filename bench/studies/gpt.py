"""The training step of `gpt` in PyTorch."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from common import measure

BATCH, CONTEXT, VOCABULARY, HEADS, DEPTH, DROPOUT = 16, 128, 73, 6, 4, 0.1
WIDTH = 32 * HEADS


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, WIDTH)
        x = x + F.dropout(self.project(seen), DROPOUT)
        return x + F.dropout(self.down(F.gelu(self.up(self.norm2(x)))), DROPOUT)


if __name__ == "__main__":
    embed, head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
    body = nn.Sequential(*[Block() for _ in range(DEPTH)], nn.LayerNorm(WIDTH))
    model = nn.ModuleList([embed, body, head])
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    text, places = torch.randint(0, VOCABULARY, (1_000_000,)), torch.randn(CONTEXT, WIDTH)

    def step():
        place = torch.randint(0, len(text) - CONTEXT - 1, (BATCH, 1)) + torch.arange(CONTEXT + 1)
        drawn = text[place]
        logits = head(body(embed(drawn[:, :-1]) + places))
        loss = F.cross_entropy(logits.flatten(0, 1), drawn[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return loss.item()

    measure("gpt", step)
