"""Clipping after the step, before it, and after it only to measure the norm."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

for _ in range(3):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # finds: clipping-without-effect

for _ in range(3):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)  # ok: clipping-without-effect
    optimizer.step()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))  # ok: clipping-without-effect
