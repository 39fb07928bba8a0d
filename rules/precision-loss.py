"""Digits that are lost in float32 on the way back to float64, a result that stays float32, and numbers that float32 holds."""

import torch

torch.manual_seed(0)
a = torch.randn(8, 8, dtype=torch.float64)
b = torch.randn(8, 8, dtype=torch.float64)
for _ in range(2):
    product = (a.float() @ b.float()) * b  # finds: precision-loss
shifted = (a - a.mean()).float()  # finds: precision-loss
widened = shifted.relu().double()  # ok: precision-loss
single = a.float() @ b.float()  # ok: precision-loss
logged = single.mean().double()  # ok: precision-loss
whole = a.round().float()  # ok: precision-loss
whole.double().sum()
