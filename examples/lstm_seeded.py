"""Is an LSTM regression model consistent? With torch.manual_seed before everything, it is."""

# repro-audit:
#   - verdict: no-divergence-seen

import torch
from torch import nn

torch.manual_seed(42)
x = torch.randn(10, 1, 5)
lstm = nn.LSTM(5, 10)
head = nn.Linear(10, 1)

output, _ = lstm(x)
print(head(output).squeeze().tolist())
