"""Images in uint8 that are added and subtracted, the same in a wider dtype, sums that fit, and a hash."""

import torch

torch.manual_seed(0)
image = torch.randint(0, 256, (8, 8), dtype=torch.uint8)
other = torch.randint(0, 256, (8, 8), dtype=torch.uint8)
for _ in range(2):
    brighter = image + other  # finds: integer-overflow
difference = image - other  # finds: integer-overflow
signed = image.to(torch.int16) - other.to(torch.int16)  # ok: integer-overflow
half = image // 2 + other // 2  # ok: integer-overflow
inverted = 255 - image  # ok: integer-overflow
total = image.sum()  # ok: integer-overflow
state = torch.arange(8, dtype=torch.int32) * 1664525 + 1013904223  # ok: integer-overflow
mixed = (image * 31) ^ other  # ok: integer-overflow
