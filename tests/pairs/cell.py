"""A recurrent cell that is stepped by hand; module.py does the same with the module."""

import torch
from torch import nn

torch.manual_seed(0)
data = torch.randn(3, 1, 2)
cell = nn.RNNCell(2, 5)
hidden = torch.zeros(1, 5)
for x in data:
    hidden = cell(x, hidden)
    print(hidden.tolist())
