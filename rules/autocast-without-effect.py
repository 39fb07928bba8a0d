"""Autocast around a float64 model, which it does not cast, around a float32 one, and around ops that it does not cast."""

import torch
from torch import nn

torch.manual_seed(0)
wide, narrow = nn.Linear(8, 8).double(), nn.Linear(8, 8)
x = torch.randn(4, 8)

for _ in range(2):
    with torch.autocast("cpu", dtype=torch.bfloat16):  # finds: autocast-without-effect
        wide(x.double())
with torch.autocast("cpu", dtype=torch.bfloat16):  # ok: autocast-without-effect
    narrow(x)
with torch.autocast("cpu", dtype=torch.bfloat16):  # ok: autocast-without-effect
    with torch.autocast("cpu", enabled=False):  # ok: autocast-without-effect
        wide(x.double())
    x.softmax(1)
