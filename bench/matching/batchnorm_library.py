"""What batchnorm_by_hand.py does, with torch's module and optimizer."""

import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(0)
inputs = rng.standard_normal((12, 16, 6)) * np.arange(1, 7) + 2
labels = torch.tensor(np.sin(inputs.sum(2, keepdims=True)), dtype=torch.get_default_dtype())
inputs = torch.tensor(inputs, dtype=torch.get_default_dtype())
bn = nn.BatchNorm1d(6, eps=1e-5, momentum=0.1)
fc = nn.Linear(6, 1, bias=False)
with torch.no_grad():
    fc.weight.copy_(torch.from_numpy(rng.standard_normal((6, 1)) / 3).T)
optimizer = torch.optim.SGD([*bn.parameters(), *fc.parameters()], lr=0.05)
for x, y in zip(inputs, labels, strict=True):
    normed = bn(x)
    act = torch.relu(normed)
    out = fc(act)
    error = out - y
    loss = error.square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
bn.eval()
final = bn(inputs[0])
