"""Draws inside modules, during their construction, and outside of them."""

import torch
from torch import nn


class Noisy(nn.Module):
    """Adds noise to what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add it."""
        return x + torch.randn_like(x)  # finds: other-draws-on-cuda


torch.manual_seed(0)
layer = nn.Linear(4, 4)  # ok: other-draws-on-cuda
x = torch.randn(2, 4)  # ok: other-draws-on-cuda
noise = torch.randn_like(x)  # ok: other-draws-on-cuda
noisy = Noisy()(x)
for _ in range(2):
    dropped = nn.Dropout(0.5)(x)  # finds: other-draws-on-cuda
kept = nn.Dropout(0.5).eval()(x)  # ok: other-draws-on-cuda
