"""The seed is set from the clock, so it differs between runs."""

# repro-audit:
#   - verdict: diverged
#     kind: draw
#     cause: clock
#     finds: [varying-seed]

import time

import torch
from torch import nn

torch.manual_seed(time.time_ns() % 2**31)  # <- diverges
x = torch.randn(32, 4)
y = x.sum(dim=1, keepdim=True)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for epoch in range(5):
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(epoch, loss.item())
