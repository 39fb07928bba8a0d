"""Clipping with a gradient scaler, without and with unscaling before it."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu")

for _ in range(3):
    optimizer.zero_grad()
    scaler.scale(model(x).square().mean()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # finds: clipping-before-unscale
    scaler.step(optimizer)
    scaler.update()

for _ in range(3):
    optimizer.zero_grad()
    scaler.scale(model(x).square().mean()).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # ok: clipping-before-unscale
    scaler.step(optimizer)
    scaler.update()

for _ in range(3):
    optimizer.zero_grad()
    scaler.scale(model(x).square().mean()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0 * scaler.get_scale())  # ok: clipping-before-unscale
    scaler.step(optimizer)
    scaler.update()
