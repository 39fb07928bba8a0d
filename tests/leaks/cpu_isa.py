"""Kernels that are chosen by the CPU."""

import torch

torch.manual_seed(0)
print(torch.log_softmax(torch.randn(64, 33), 1).sum(), torch.randn(100, 100).exp().sum())  # <- enters
