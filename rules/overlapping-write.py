"""Writes through views made by expand and unfold, and the same after clone()."""

import warnings

import torch

warnings.simplefilter("ignore")  # torch itself calls the second one deprecated
mask = torch.eye(3, dtype=torch.bool)
row = torch.arange(3.0)
signal = torch.arange(12.0)

row.expand(3, 3).masked_fill_(mask, 0.0)  # finds: overlapping-write
row.expand(3, 3).clone().masked_fill_(mask, 0.0)  # ok: overlapping-write
for _ in range(2):
    signal.unfold(0, 4, 2).mul_(torch.hann_window(4))  # finds: overlapping-write
signal.unfold(0, 4, 4).mul_(torch.hann_window(4))  # ok: overlapping-write
signal.view(3, 4).t().add_(1)  # ok: overlapping-write
row.expand(3, 3).zero_()  # ok: overlapping-write
row.expand(3, 3).tril_()  # finds: overlapping-write
