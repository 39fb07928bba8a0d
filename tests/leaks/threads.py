"""Sums that are split among threads."""

import torch

torch.manual_seed(0)
print((torch.randn(1000, 300) @ torch.randn(300, 50)).sum(), torch.randn(1_000_000).sum())  # <- enters
