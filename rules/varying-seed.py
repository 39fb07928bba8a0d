"""Seeds from the clock, the process id and a hash; and one that is a constant."""

# runs: 2

import os
import random
import time

import numpy as np
import torch

torch.manual_seed(int(time.time() * 1000))  # finds: varying-seed
np.random.seed(os.getpid())  # finds: varying-seed
random.seed(4)  # ok: varying-seed
own = torch.Generator().manual_seed(hash("experiment 7") & 0xFFFF)  # finds: varying-seed
torch.randn(2) + torch.randn(2, generator=own) + np.random.rand() + random.random()
