"""A product that may be computed in TF32."""

import torch

torch.manual_seed(0)
a, b = torch.randn(256, 256).cuda(), torch.randn(256, 256).cuda()
print((a @ b).sum())  # <- enters
