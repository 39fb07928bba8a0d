"""Sums in half precision that overflow or lose much, and those that do not."""

import torch

torch.manual_seed(0)
values = torch.rand(4096).half() * 100
for _ in range(2):
    total = values.sum()  # finds: half-precision-reduction
growth = torch.full((256,), 1.01).to(torch.bfloat16).prod()  # finds: half-precision-reduction
wide = values.sum(dtype=torch.float32)  # ok: half-precision-reduction
mean = values[:64].mean()  # ok: half-precision-reduction
ranged = values.to(torch.bfloat16).sum()  # ok: half-precision-reduction
centred = torch.randn(4096).to(torch.bfloat16).mean()  # ok: half-precision-reduction
