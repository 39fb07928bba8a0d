"""Kernels chosen by CPU instruction set, and a recursion that amplifies their last bits."""

import torch

torch.manual_seed(0)
x = torch.log_softmax(torch.randn(64, 33), 1) / -20  # <- enters
for _ in range(100):
    x = 3.9 * x * (1 - x)
print(x[:, 0].sum().item())
