"""Tensors of torch.empty: read directly, read through a view, and filled in several ways before they are read."""

import torch

torch.manual_seed(0)
x = torch.randn(3, 4)

mask = torch.empty(3, 4)
masked = x * mask  # finds: uninitialized-read
total = torch.Tensor(12)
for row in x:
    total.view(3, 4).add_(row)  # finds: uninitialized-read

filled = torch.empty(3, 4).fill_(1.0)
once = x + filled  # ok: uninitialized-read
out = torch.empty(3, 4)
torch.add(x, 1, out=out)
twice = out + 1  # ok: uninitialized-read
parts = torch.empty(3, 4)
for k in range(3):
    parts[k] = x[k]
third = parts.sum()  # ok: uninitialized-read
shared = torch.empty(3, 4)
shared.numpy()[:] = 1
fourth = shared.sum()  # ok: uninitialized-read
unread = torch.baddbmm(torch.empty(1, 3, 3), x[None], x.t()[None], beta=0)  # ok: uninitialized-read
nothing = torch.cat([torch.empty(0, 4), x])  # ok: uninitialized-read
like = torch.zeros_like(torch.empty(3, 4))  # ok: uninitialized-read
layer = torch.nn.LSTM(4, 2)
fifth, _ = layer(x)  # ok: uninitialized-read
sixth = torch.where(mask == mask, x, torch.empty(3, 4))  # ok: uninitialized-read
