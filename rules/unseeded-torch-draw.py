"""Weights and data come from an unseeded stream; a generator of its own is seeded."""

import torch

own = torch.Generator().manual_seed(1)
torch.randn(3, generator=own)  # ok: unseeded-torch-draw
model = torch.nn.Linear(4, 2)  # finds: unseeded-torch-draw
x = torch.randn(8, 4)  # ok: unseeded-torch-draw
model(x).sum().backward()
