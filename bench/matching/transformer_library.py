"""What transformer_by_hand.py does, with modules of torch."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

torch.set_default_dtype(torch.float32)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.proj = nn.Linear(16, 48, bias=False), nn.Linear(16, 16, bias=False)
        self.up, self.down = nn.Linear(16, 32, bias=False), nn.Linear(32, 16, bias=False)

    def attend(self, x):
        b, t, d = x.shape
        q, k, v = (one.view(b, t, 4, d // 4).transpose(1, 2) for one in self.qkv(x).split(d, dim=-1))
        raw = q @ k.transpose(-2, -1) * (d // 4) ** -0.5
        scores = raw.masked_fill(torch.triu(torch.ones(t, t), diagonal=1) > 0, float("-inf"))
        weights = F.softmax(scores, dim=-1)
        context = (weights @ v).transpose(1, 2).reshape(b, t, d)
        return self.proj(context)

    def forward(self, x):
        attended = x + self.attend(self.ln1(x))
        return attended + self.down(F.gelu(self.up(self.ln2(attended))))


rng = np.random.default_rng(0)
tokens = torch.from_numpy(rng.integers(0, 11, (3, 2, 6)))
wte, lm_head = nn.Embedding(11, 16), nn.Linear(16, 11, bias=False)
block = Block()
with torch.no_grad():
    for p in (wte.weight, lm_head.weight):
        p.copy_(torch.from_numpy(rng.standard_normal((11, 16))))
    for p in (block.qkv.weight, block.proj.weight, block.up.weight, block.down.weight):
        p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape)) / 4))
    for p in (block.ln1.weight, block.ln2.weight):
        p.copy_(torch.from_numpy(1 + rng.standard_normal(16) / 8))
    for p in (block.ln1.bias, block.ln2.bias):
        p.copy_(torch.from_numpy(rng.standard_normal(16) / 8))
for ids in tokens:
    hidden = wte(ids)
    result = block(hidden)
    logits = lm_head(result)
    loss = F.cross_entropy(logits[:, :-1].reshape(-1, 11), ids[:, 1:].reshape(-1)).item()
