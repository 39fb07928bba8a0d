"""A logarithm of what becomes negative."""

# finds: non-finite-loss

import torch

torch.manual_seed(0)
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=1.0)
for _ in range(4):
    loss = torch.log(w.sum())  # the finding is of the step and has no line
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    w.data.sub_(0.7)

v = torch.ones(3, requires_grad=True)  # ok: non-finite-loss
v.square().sum().backward()
