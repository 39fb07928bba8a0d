"""Numbers that are too large or too small for their new dtype, some that fit, and a mask that is meant to be infinite."""

import torch

torch.manual_seed(0)
prices = torch.rand(8) * 1e6
ids = torch.arange(8) + 2**40
for _ in range(2):
    half = prices.half()  # finds: overflowing-cast
short = ids.int()  # finds: overflowing-cast
epsilon = torch.full((), 1e-9).half()  # finds: overflowing-cast
ranged = prices.to(torch.bfloat16)  # ok: overflowing-cast
scaled = (prices / 1e3).half()  # ok: overflowing-cast
small = (ids - 2**40).int()  # ok: overflowing-cast
low = (ids & 0xFFFFFFFF).int()  # ok: overflowing-cast
some = torch.tensor([1e-9, 1.0]).half()  # ok: overflowing-cast
mask = torch.zeros(4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), torch.finfo(torch.float32).min)
seen = mask[None].expand(2, 4, 4).half()  # ok: overflowing-cast
