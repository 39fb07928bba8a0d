"""Convolutions while benchmark mode is off, on, and on with cuDNN off; and a product, which has no such mode."""

import torch
from torch import nn

torch.manual_seed(0)
image, matrix = torch.randn(1, 2, 8, 8), torch.randn(4, 4)
layer = nn.Conv2d(2, 2, 3)
filtered = layer(image)  # ok: timed-choice-on-cuda
torch.backends.cudnn.benchmark = True
for _ in range(2):
    layer(image).sum().backward()  # finds: timed-choice-on-cuda
product = matrix @ matrix  # ok: timed-choice-on-cuda
with torch.backends.cudnn.flags(enabled=False, benchmark=True):
    filtered = layer(image)  # ok: timed-choice-on-cuda
torch.backends.cudnn.benchmark = False
filtered = layer(image)  # ok: timed-choice-on-cuda
