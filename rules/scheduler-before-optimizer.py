"""The schedule steps first in its epoch; then in the correct order, and moved forward as when training is resumed."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)
for _ in range(3):
    scheduler.step()  # finds: scheduler-before-optimizer
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()

optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (epoch + 1))
for _ in range(2):
    scheduler.step()  # ok: scheduler-before-optimizer
for _ in range(3):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
    scheduler.step()  # ok: scheduler-before-optimizer
