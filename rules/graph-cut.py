"""Losses that are cut off from their inputs; the last one is correct, and only inspected in between."""

import contextlib

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)
model = torch.nn.Linear(4, 1)

with torch.no_grad():
    out = model(x)  # finds: graph-cut
with contextlib.suppress(RuntimeError):
    out.square().mean().backward()

right = (model(x) > 0).float().mean()  # finds: graph-cut
with contextlib.suppress(RuntimeError):
    (1 - right).backward()

for _ in range(3):
    loss = torch.tensor(model(x).square().mean().item(), requires_grad=True)  # finds: graph-cut
    loss.backward()

out = model(x)
print(out.detach().mean(), (out > 0).sum().item())
out.square().mean().backward()  # ok: graph-cut
