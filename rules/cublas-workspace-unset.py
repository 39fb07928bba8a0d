"""Matrix products with and without the switch for deterministic algorithms, and never the variable that cuBLAS needs with it."""

import torch

torch.manual_seed(0)
x = torch.randn(4, 4)
free = x @ x
torch.use_deterministic_algorithms(False)  # ok: cublas-workspace-unset
free = x @ x
torch.use_deterministic_algorithms(True)  # finds: cublas-workspace-unset
strict = x @ x
strict = x @ x[0]
