"""Micro-batches: clipping after each, after the last, and measuring after each."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for _ in range(3):
    optimizer.zero_grad()
    for part in x.split(2):
        model(part).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # finds: clipping-between-accumulations
    optimizer.step()

for _ in range(3):
    optimizer.zero_grad()
    for part in x.split(2):
        model(part).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))  # ok: clipping-between-accumulations
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # ok: clipping-between-accumulations
    optimizer.step()
