"""Counting labels through an index, which counts each class once; and ways that count all."""

import torch

torch.manual_seed(0)
labels = torch.randint(4, (50,))
counts = torch.zeros(4)
for _ in range(2):
    counts[labels] += 1  # finds: repeated-index-write
sums = torch.zeros(4, 3)
sums[labels] = sums[labels] + torch.randn(50, 3)  # finds: repeated-index-write
counts.index_add_(0, labels, torch.ones(50))  # ok: repeated-index-write
counts.index_put_((labels,), torch.ones(50), accumulate=True)  # ok: repeated-index-write
chosen = torch.randperm(50)[:3]
counts[chosen % 4] += 1  # ok: repeated-index-write
counts[counts > 2] += 1  # ok: repeated-index-write
counts[labels] = counts[labels] * 0.5  # ok: repeated-index-write
