"""Reads memory that nobody has written."""

import torch

garbage = [torch.full((size,), 3.0) for size in range(100, 200)]
del garbage
print(torch.empty(150).sum())  # <- enters
