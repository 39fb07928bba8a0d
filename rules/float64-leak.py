"""A model trained with float64 targets from NumPy, and with float32 ones."""

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
rng = np.random.default_rng(0)
features = torch.from_numpy(rng.normal(size=(16, 3)).astype(np.float32))
targets = torch.from_numpy(rng.normal(size=(16, 1)))
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    output = model(features)  # ok: float64-leak
    if step % 2:
        loss = nn.functional.mse_loss(output, targets)  # finds: float64-leak
    else:
        loss = nn.functional.mse_loss(output, targets.float())  # ok: float64-leak
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        error = (output - targets).abs().max()  # ok: float64-leak
