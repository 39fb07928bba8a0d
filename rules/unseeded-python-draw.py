"""The order of the samples comes from `random`, which is not seeded."""

import random

import torch

torch.manual_seed(0)
own = random.Random(1)
first = own.randrange(8)  # ok: unseeded-python-draw
order = list(range(8))
random.shuffle(order)  # finds: unseeded-python-draw
torch.randn(8, 2)[order][first].sum()
