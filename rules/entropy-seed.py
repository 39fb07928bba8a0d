"""Four ways to ask the operating system for a seed, and similar calls that do not."""

import random

import numpy as np
import torch

torch.manual_seed(0)  # ok: entropy-seed
random.seed(0)  # ok: entropy-seed
fixed = np.random.default_rng(0)  # ok: entropy-seed
free = np.random.default_rng()  # finds: entropy-seed
random.seed()  # finds: entropy-seed
generator = torch.Generator()  # ok: entropy-seed
generator.seed()  # finds: entropy-seed
torch.seed()  # finds: entropy-seed
torch.tensor([fixed.normal(), free.normal(), random.random()]) + torch.randn(3, generator=generator)
