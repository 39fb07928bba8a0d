"""Benchmark mode on, restored after a moment without cuDNN, and off again."""

import torch

torch.backends.cudnn.benchmark = True  # finds: cudnn-benchmark
torch.ones(1)
with torch.backends.cudnn.flags(enabled=False):  # ok: cudnn-benchmark
    torch.ones(1)
torch.backends.cudnn.benchmark = False  # ok: cudnn-benchmark
torch.ones(1)
