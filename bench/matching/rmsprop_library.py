"""What rmsprop_by_hand.py does, with torch's optimizer."""

import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(0)
x_all = rng.standard_normal((64, 5))
y_all = torch.tensor(np.tanh(x_all @ rng.standard_normal((5, 2))), dtype=torch.get_default_dtype())
x_all = torch.tensor(x_all, dtype=torch.get_default_dtype())
model = nn.Sequential(nn.Linear(5, 12, bias=False), nn.Tanh(), nn.Linear(12, 2, bias=False))
with torch.no_grad():
    model[0].weight.copy_(torch.from_numpy(rng.standard_normal((5, 12)) / 2).T)
    model[2].weight.copy_(torch.from_numpy(rng.standard_normal((12, 2)) / 2).T)
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01, alpha=0.99, eps=1e-8)
for step in range(16):
    order = torch.arange(16) * 4 + step % 4
    x, y = x_all[order], y_all[order]
    out = model(x)
    error = out - y
    loss = error.pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
