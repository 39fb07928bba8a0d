"""Is an LSTM regression model consistent? Without a seed even its input differs from run to run."""

# repro-audit:
#   - verdict: diverged
#     kind: draw
#     op: aten.randn.default
#     cause: torch-seed
#     finds: [unseeded-torch-draw]

import torch
from torch import nn

x = torch.randn(10, 1, 5)  # <- diverges
lstm = nn.LSTM(5, 10)
head = nn.Linear(10, 1)

output, _ = lstm(x)
print(head(output).squeeze().tolist())
