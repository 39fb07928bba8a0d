"""The same as adam_by_hand.py with a module and torch's optimizer, from the same weights."""

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.dropout = nn.Dropout(0.3)
        self.second = nn.Linear(8, 4, bias=False)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.second(self.dropout(h))


rng = np.random.default_rng(0)
data = rng.standard_normal((64, 8))
target = np.sin(data[:, :4]) + 0.1 * rng.standard_normal((64, 4))
data, target = torch.from_numpy(data).float(), torch.from_numpy(target).float()

net = Net()
with torch.no_grad():
    net.first.weight.copy_(torch.from_numpy(rng.standard_normal((8, 8)).T / 3))
    net.second.weight.copy_(torch.from_numpy(rng.standard_normal((8, 4)).T / 3))
    net.first.bias.zero_()
net.eval()  # it is fine-tuned without dropout
optimizer = torch.optim.Adam(net.parameters(), lr=0.01, eps=1e-8)
for _epoch in range(4):
    for start in range(0, 64, 16):
        x = data[start : start + 16]
        y = target[start : start + 16]
        out = net(x)
        error = out - y
        loss = error.pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            prediction = net(data[:4])
print(loss.item())
