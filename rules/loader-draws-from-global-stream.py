"""A network with dropout, and loaders of its evaluation data with and without a generator of their own."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(16, 4), torch.randn(16, 1))
train = DataLoader(data, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(0))
unshuffled = DataLoader(data, batch_size=8)
validation = DataLoader(data, batch_size=8)
test = DataLoader(data, batch_size=8, generator=torch.Generator().manual_seed(0))
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for epoch in range(3):
    model.train()
    for x, y in train if epoch else unshuffled:  # ok: loader-draws-from-global-stream
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for x, y in validation:  # finds: loader-draws-from-global-stream
            (model(x) - y).square().mean()
        for x, y in test:  # ok: loader-draws-from-global-stream
            (model(x) - y).square().mean()

for x, y in validation:  # ok: loader-draws-from-global-stream
    model(x)  # nothing is trained after it
