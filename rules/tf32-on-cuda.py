"""Convolutions, recurrent layers and products, with the default TF32 switches, set by both interfaces, and off."""

import torch
from torch import nn

torch.manual_seed(0)
image, matrix, sequence = torch.randn(1, 2, 8, 8), torch.randn(4, 4), torch.randn(3, 1, 4)
lstm = nn.LSTM(4, 4)
kernel = torch.randn(2, 2, 3, 3, requires_grad=True)
for _ in range(2):
    filtered = nn.functional.conv2d(image, kernel)  # finds: tf32-on-cuda
    filtered.sum().backward()  # ok: tf32-on-cuda
output, _ = lstm(sequence)  # finds: tf32-on-cuda
exact = nn.functional.conv2d(image.double(), kernel.double())  # ok: tf32-on-cuda
half = nn.functional.conv2d(image.bfloat16(), kernel.bfloat16())  # ok: tf32-on-cuda
product = matrix @ matrix  # ok: tf32-on-cuda
torch.set_float32_matmul_precision("high")
product = matrix @ matrix  # finds: tf32-on-cuda
product = matrix.bfloat16() @ matrix.bfloat16()  # ok: tf32-on-cuda
torch.set_float32_matmul_precision("highest")
torch.backends.cudnn.enabled = False
filtered = nn.functional.conv2d(image, kernel)  # ok: tf32-on-cuda
torch.backends.cudnn.enabled = True
torch.backends.cudnn.allow_tf32 = False
filtered = nn.functional.conv2d(image, kernel)  # ok: tf32-on-cuda
output, _ = lstm(sequence)  # ok: tf32-on-cuda
if hasattr(torch.backends.cudnn, "conv"):  # since torch 2.9
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    filtered = nn.functional.conv2d(image, kernel)  # finds: tf32-on-cuda
    output, _ = lstm(sequence)  # ok: tf32-on-cuda
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    filtered = nn.functional.conv2d(image, kernel)  # ok: tf32-on-cuda
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    product = matrix @ matrix  # finds: tf32-on-cuda
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    product = matrix @ matrix  # ok: tf32-on-cuda
