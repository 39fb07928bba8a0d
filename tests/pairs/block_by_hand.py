"""The same as block_library.py, with the attention, the block and AdamW written out."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (x @ self.in_proj_weight.T + self.in_proj_bias).split(d, dim=-1)
        q, k, v = (one.view(b, t, self.heads, d // self.heads).transpose(1, 2) for one in (q, k, v))
        att = (q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)).softmax(-1)
        return self.out_proj((att @ v).transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    def __init__(self, width, heads, inner):
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x):
        x = self.ln1(x + self.attention(x))
        return self.ln2(x + self.down(F.relu(self.up(x))))


torch.manual_seed(1)
reference = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, dropout=0.0, batch_first=True)
head = nn.Linear(16, 3)
inputs = torch.randn(8, 5, 16)
labels = torch.randint(0, 3, (8,))
block = Block(16, 4, 32)
with torch.no_grad():
    block.attention.load_state_dict(reference.self_attn.state_dict())
    block.up.load_state_dict(reference.linear1.state_dict())
    block.down.load_state_dict(reference.linear2.state_dict())
parameters = [*block.parameters(), *head.parameters()]
moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
for t in range(1, 4):
    hidden = block(inputs)
    out = head(hidden.mean(dim=1))
    loss = -F.log_softmax(out, dim=-1)[torch.arange(8), labels].mean()
    for p in parameters:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for p, (m, v) in zip(parameters, moments, strict=True):
            p.mul_(1 - 1e-3 * 1e-2)
            m.lerp_(p.grad, 0.1)
            v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            p.sub_(1e-3 / (1 - 0.9**t) * m / ((v / (1 - 0.999**t)).sqrt() + 1e-8))
