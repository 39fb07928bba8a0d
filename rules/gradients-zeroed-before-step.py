"""Gradients are zeroed between backward and step: to None, to zeros, and by the model; two correct loops."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)

one = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
for _ in range(3):
    one(x).square().mean().backward()
    optimizer.zero_grad()  # finds: gradients-zeroed-before-step
    optimizer.step()

two = torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam(two.parameters(), lr=0.1)
for _ in range(3):
    two(x).square().mean().backward()
    two.zero_grad(set_to_none=False)  # finds: gradients-zeroed-before-step
    optimizer.step()

fine = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(fine.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()  # ok: gradients-zeroed-before-step
    fine(x).square().mean().backward()
    optimizer.step()
for _ in range(3):
    fine(x).square().mean().backward()
    optimizer.step()
    fine.zero_grad()  # ok: gradients-zeroed-before-step
