"""A logarithm of numbers that become negative; and a mask of infinities, which is intended."""

import torch

torch.manual_seed(0)
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=1.0)
mask = torch.tensor([False, False, True])
for _ in range(4):
    weights = torch.softmax(w.masked_fill(mask, float("-inf")), 0)  # ok: non-finite-loss
    logs = torch.log(w.sum())  # finds: non-finite-loss
    loss = logs + weights.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    w.data.sub_(0.7)

v = torch.ones(3, requires_grad=True)
v.square().sum().backward()  # ok: non-finite-loss
