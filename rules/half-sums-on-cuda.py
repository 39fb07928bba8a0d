"""Products in three dtypes, and with each of the two switches off."""

import torch

torch.manual_seed(0)
full = torch.randn(4, 4)
half, brain = full.half(), full.bfloat16()
product = full @ full  # ok: half-sums-on-cuda
product = half @ half  # finds: half-sums-on-cuda
product = torch.nn.functional.linear(brain, brain, brain[0])  # finds: half-sums-on-cuda
product = torch.bmm(half[None], half[None])  # finds: half-sums-on-cuda
total = half.sum()  # ok: half-sums-on-cuda
with torch.autocast("cpu", torch.bfloat16):
    product = full @ full  # finds: half-sums-on-cuda
torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
product = half @ half  # ok: half-sums-on-cuda
product = brain @ brain  # finds: half-sums-on-cuda
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
product = brain @ brain  # ok: half-sums-on-cuda
