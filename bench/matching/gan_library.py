"""What gan_by_hand.py does, with modules, a loss and optimizers of torch."""

import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(0)
G = nn.Sequential(nn.Linear(4, 16, bias=False), nn.Tanh(), nn.Linear(16, 2, bias=False))
D = nn.Sequential(nn.Linear(2, 16, bias=False), nn.LeakyReLU(0.2), nn.Linear(16, 1, bias=False), nn.Sigmoid())
with torch.no_grad():
    G[0].weight.copy_(torch.from_numpy(rng.standard_normal((4, 16)) / 2).T)
    G[2].weight.copy_(torch.from_numpy(rng.standard_normal((16, 2)) / 4).T)
    D[0].weight.copy_(torch.from_numpy(rng.standard_normal((2, 16))).T)
    D[2].weight.copy_(torch.from_numpy(rng.standard_normal((16, 1)) / 4).T)
opt_g, opt_d = torch.optim.SGD(G.parameters(), lr=0.1), torch.optim.SGD(D.parameters(), lr=0.1)
criterion = nn.BCELoss()
for _turn in range(24):
    angle = rng.uniform(0, 3, (16, 1))
    real = torch.tensor(np.concatenate([np.cos(angle), np.sin(angle)], 1), dtype=torch.get_default_dtype())
    noise = torch.tensor(rng.standard_normal((16, 4)), dtype=torch.get_default_dtype())
    fake = G(noise)
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    loss_d = criterion(D(real), ones) + criterion(D(fake.detach()), zeros)
    opt_d.zero_grad()
    loss_d.backward()
    opt_d.step()
    loss_g = criterion(D(fake), ones)
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
