"""The model, its dropout and the data are seeded in torch, but Python's unseeded `random` shuffles the batches."""

# repro-audit:
#   - verdict: diverged
#     kind: draw
#     cause: python-seed
#     finds: [unseeded-python-draw]

import random

import torch
from torch import nn

generator = torch.Generator().manual_seed(0)
x = torch.randn(128, 8, generator=generator)
y = x.sin().sum(dim=1, keepdim=True)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

indices = list(range(len(x)))
for epoch in range(5):
    random.shuffle(indices)  # <- diverges
    for start in range(0, len(indices), 32):
        batch = indices[start : start + 32]
        loss = nn.functional.mse_loss(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
