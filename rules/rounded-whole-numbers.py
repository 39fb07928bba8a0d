"""Positions in bfloat16, which holds whole numbers up to 256, and ids in float32, which holds them up to 2 ** 24."""

import torch

positions = torch.arange(1024)
ids = torch.arange(4) + 2**30
for _ in range(2):
    rotary = positions.to(torch.bfloat16)  # finds: rounded-whole-numbers
known = ids.float()  # finds: rounded-whole-numbers
fine = positions.float()  # ok: rounded-whole-numbers
wide = ids.double()  # ok: rounded-whole-numbers
early = positions[:256].to(torch.bfloat16)  # ok: rounded-whole-numbers
total = ids.sum().float()  # ok: rounded-whole-numbers
