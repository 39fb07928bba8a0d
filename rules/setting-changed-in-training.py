"""The number of threads is set before training and again during it; cuDNN is off for a moment in each step, and restored."""

import torch

torch.manual_seed(0)
torch.set_num_threads(2)  # ok: setting-changed-in-training
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    if step == 2:
        torch.set_num_threads(1)  # finds: setting-changed-in-training
    optimizer.zero_grad()
    with torch.backends.cudnn.flags(enabled=False):  # ok: setting-changed-in-training
        model(torch.ones(2, 4))
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
