"""Activations that are written before the backward pass that needs them, and writes that do not matter."""

import torch
from torch import nn

torch.manual_seed(0)
w = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
a = w.exp()
a.add_(1)  # finds: in-place-needed-for-backward
try:
    a.sum().backward()
except RuntimeError:
    pass

b = w.tanh()
b.data.mul_(2)  # finds: in-place-needed-for-backward
b.sum().backward()

c = w + 1
c.add_(1)  # ok: in-place-needed-for-backward
c.sum().backward()

model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    hidden = model(torch.randn(5, 3))
    loss = hidden.square().mean()
    optimizer.zero_grad()
    loss.backward()
    hidden.data.zero_()  # ok: in-place-needed-for-backward
    optimizer.step()


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x * 1
        y.mul_(2)  # ok: in-place-needed-for-backward
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * y


Doubled.apply(w).sum().backward()
