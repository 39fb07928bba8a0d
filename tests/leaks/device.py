"""Uses the available device."""

import torch

torch.manual_seed(0)
a, b = torch.randn(256, 256), torch.randn(256, 256)
if torch.cuda.is_available():
    a, b = a.cuda(), b.cuda()
print((a @ b).sum())  # <- enters
