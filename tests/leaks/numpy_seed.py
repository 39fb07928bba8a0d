"""Draws from NumPy's global stream and from generators without a seed."""

import numpy as np
import torch

values = [np.random.rand(3), np.random.default_rng().random(3), np.random.RandomState().rand(3)]  # <- enters
print(torch.from_numpy(np.stack(values)).sum())
