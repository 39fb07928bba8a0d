"""The loss of an epoch summed in bfloat16, in float32, and a deep residual stream."""

import torch

torch.manual_seed(0)
values = torch.rand(80).to(torch.bfloat16)
coarse = torch.zeros((), dtype=torch.bfloat16)
fine = torch.zeros(())
stream = torch.zeros(4, dtype=torch.bfloat16)
for value in values:
    coarse += value * 2  # finds: half-running-total
    fine += value.float()  # ok: half-running-total
    stream = stream + value  # ok: half-running-total
few = torch.zeros((), dtype=torch.bfloat16)
for value in values[:10]:
    few += value  # ok: half-running-total
summed = values.sum()  # ok: half-running-total
