"""What convolution_by_hand.py does, with torch's convolution and autograd."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

torch.set_default_dtype(torch.float32)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        conv = self.conv(x)
        relu = F.relu(conv)
        pooled = relu.mean(dim=(2, 3))
        return self.fc(pooled)


rng = np.random.default_rng(0)
images = torch.tensor(rng.standard_normal((32, 2, 6, 6)), dtype=torch.get_default_dtype())
classes = torch.from_numpy(rng.integers(0, 3, 32))
net = Net()
with torch.no_grad():
    net.conv.weight.copy_(torch.from_numpy(rng.standard_normal((4, 2, 3, 3)) / 4))
    net.conv.bias.zero_()
    net.fc.weight.copy_(torch.from_numpy(rng.standard_normal((4, 3)) / 2).T)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(16):
    chosen = torch.arange(8) + 8 * (step % 4)
    x, y = images[chosen], classes[chosen]
    logits = net(x)
    loss = F.cross_entropy(logits, y)
    accuracy = (logits.argmax(1) == y).double().mean().item()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
