"""Ops that PyTorch lists, forward and backward, and their neighbours that it does not."""

import torch
from torch import nn

torch.manual_seed(0)
images = torch.randn(2, 3, 8, 8)
kernel = torch.randn(4, 3, 3, 3, requires_grad=True)
filtered = nn.functional.conv2d(images, kernel)  # finds: nondeterministic-on-cuda
small = nn.functional.max_pool2d(filtered, 2)  # ok: nondeterministic-on-cuda
large = nn.functional.interpolate(small, scale_factor=2, mode="bilinear")  # finds: nondeterministic-on-cuda
nearest = nn.functional.interpolate(large, scale_factor=2)  # ok: nondeterministic-on-cuda
loss = nn.functional.cross_entropy(nearest, torch.zeros(2, 12, 12, dtype=torch.long))  # finds: nondeterministic-on-cuda
loss.backward()  # ok: nondeterministic-on-cuda

index = torch.tensor([0, 0, 1])
whole = torch.cumsum(index, 0)  # ok: nondeterministic-on-cuda
running = torch.cumsum(torch.rand(3), 0)  # finds: nondeterministic-on-cuda
counts = torch.bincount(index)  # ok: nondeterministic-on-cuda
weighted = torch.bincount(index, torch.rand(3))  # finds: nondeterministic-on-cuda
largest = torch.zeros(2).scatter_reduce(0, index, torch.rand(3), "amax")  # ok: nondeterministic-on-cuda
for _ in range(3):
    added = torch.zeros(2).index_add(0, index, torch.rand(3))  # finds: nondeterministic-on-cuda
with torch.no_grad():
    again = nn.functional.conv2d(images, kernel)  # ok: nondeterministic-on-cuda
