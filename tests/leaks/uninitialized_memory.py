"""Reads uninitialized memory: addresses that the allocator keeps in freed blocks (a sum of floats would round them off)."""

import torch

garbage = [torch.full((size,), 3) for size in range(100, 200)]
del garbage
print(torch.empty(150, dtype=torch.int64).sum())  # <- enters
