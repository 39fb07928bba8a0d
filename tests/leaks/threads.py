"""Sums that are split among threads, and a recursion that amplifies their last bits."""

import torch

torch.manual_seed(0)
x = torch.stack([torch.randn(200_000).sum() for _ in range(20)]) / 5e3 + 0.5  # <- enters
for _ in range(100):
    x = 3.9 * x * (1 - x)
print(x.sum().item())
