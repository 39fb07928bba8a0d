"""The precision of products is lowered and raised again."""

import torch

torch.set_float32_matmul_precision("high")  # finds: reduced-matmul-precision
torch.ones(1)
torch.set_float32_matmul_precision("highest")  # ok: reduced-matmul-precision
torch.ones(1)
if hasattr(torch.backends.cudnn, "conv"):  # since torch 2.9
    torch.backends.cuda.matmul.fp32_precision = "tf32"  # finds: reduced-matmul-precision
    torch.ones(1)
    torch.backends.cuda.matmul.fp32_precision = "ieee"  # ok: reduced-matmul-precision
    torch.ones(1)
