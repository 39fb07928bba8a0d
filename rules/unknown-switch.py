"""A misspelt switch, and two that exist."""

import torch

torch.backends.cudnn.enable = False  # finds: unknown-switch
torch.backends.cudnn.deterministic = True  # ok: unknown-switch
torch.backends.mkldnn.enabled = True  # ok: unknown-switch
torch.backends.cuda.matmul.allow_tf32 = False  # ok: unknown-switch
torch.ones(1)
