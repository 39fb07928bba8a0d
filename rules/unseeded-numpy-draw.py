"""Only torch is seeded, and the data comes from NumPy."""

import numpy as np
import torch

torch.manual_seed(0)
rng = np.random.default_rng(0)
offset = rng.normal(size=4)  # ok: unseeded-numpy-draw
x = torch.from_numpy(np.random.rand(8, 4) + offset)  # finds: unseeded-numpy-draw
y = torch.from_numpy(np.random.rand(8))  # ok: unseeded-numpy-draw
(x.sum(1) - y).square().sum()
