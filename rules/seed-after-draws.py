"""The model is built above the seed; NumPy is seeded before its draws."""

import numpy as np
import torch

np.random.seed(0)  # ok: seed-after-draws
model = torch.nn.Linear(4, 2)
torch.manual_seed(0)  # finds: seed-after-draws
x = torch.from_numpy(np.random.rand(8, 4)).float()
model(x + torch.randn(8, 4)).sum().backward()
torch.manual_seed(1)  # ok: seed-after-draws
torch.randn(3)
