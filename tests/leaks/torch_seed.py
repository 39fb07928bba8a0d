"""Draws from torch's CPU stream, and from a generator with a seed of its own choosing."""

import torch

own = torch.Generator()
own.seed()  # <- enters
print(torch.randn(3).sum() + torch.randn(3, generator=own).sum())  # <- enters
