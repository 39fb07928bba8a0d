"""Draws from the random stream of a GPU."""

import torch

print(torch.randn(3, device="cuda").sum())  # <- enters
