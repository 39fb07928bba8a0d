"""An autocast region that is entered manually and stays open, one that is left, and one that ends with an error."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(8, 8)
x = torch.randn(4, 8)

tidy = torch.autocast("cpu", dtype=torch.bfloat16)
tidy.__enter__()  # ok: autocast-left-open
net(x)
tidy.__exit__(None, None, None)
try:
    with torch.autocast("cpu", dtype=torch.bfloat16):  # ok: autocast-left-open
        raise ValueError
except ValueError:
    pass
torch.autocast("cpu", dtype=torch.bfloat16).__enter__()  # finds: autocast-left-open
for _ in range(2):
    net(x).float().sum().backward()
