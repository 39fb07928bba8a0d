"""Everything is seeded and the data is the same, but the loss differs: a set of strings decides the order of the rows.

Such a set has a different order in each Python process.
"""

# repro-audit:
#   - verdict: diverged
#     kind: data-order
#     cause: hash-seed

import torch
from torch import nn

readings = {f"sensor-{i:02d}": [i / 64, (i * 7 % 64) / 64, (i * 13 % 64) / 64] for i in range(64)}
broken = {"sensor-07", "sensor-21"}
names = set(readings) - broken

torch.manual_seed(0)
x = torch.tensor([readings[name] for name in names])  # <- diverges
y = x.square().sum(dim=1, keepdim=True)

model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for batch_x, batch_y in zip(x.split(16), y.split(16), strict=True):
        loss = nn.functional.mse_loss(model(batch_x), batch_y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
