"""Attention as torch computes it, with the kernel that is the same everywhere, and written out."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

torch.manual_seed(0)
query, key, value = (torch.randn(1, 2, 8, 4, requires_grad=True) for _ in range(3))
for _ in range(2):
    attended = nn.functional.scaled_dot_product_attention(query, key, value)  # finds: chosen-attention-on-cuda
    attended.sum().backward()  # ok: chosen-attention-on-cuda
with sdpa_kernel(SDPBackend.MATH):
    attended = nn.functional.scaled_dot_product_attention(query, key, value)  # ok: chosen-attention-on-cuda
attended = (query @ key.transpose(-1, -2) / 2).softmax(-1) @ value  # ok: chosen-attention-on-cuda
