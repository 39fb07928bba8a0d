"""NumPy's float64 meets torch's float32, and tensors that do not promote."""

import numpy as np
import torch

rng = np.random.default_rng(0)
theirs = torch.from_numpy(rng.normal(size=8))
mine = torch.ones(8)
scaled = mine * theirs  # finds: mixed-dtype-promotion
for _ in range(3):
    mine += theirs  # finds: mixed-dtype-promotion
same = mine == theirs  # finds: mixed-dtype-promotion
joined = torch.cat([mine, theirs, mine, mine])  # finds: mixed-dtype-promotion
single = mine * theirs[0]  # ok: mixed-dtype-promotion
number = mine * torch.tensor(0.5, dtype=torch.float64)  # ok: mixed-dtype-promotion
counted = mine * torch.arange(8)  # ok: mixed-dtype-promotion
said = mine * theirs.float()  # ok: mixed-dtype-promotion
wide = theirs * theirs  # ok: mixed-dtype-promotion
