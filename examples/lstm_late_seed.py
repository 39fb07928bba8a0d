"""Is an LSTM regression model consistent? The input has its own seed, but the global seed is set after the model is built.

The data is the same in every run and so is the dropout of training; the initial weights are not.
"""

# repro-audit:
#   - verdict: diverged
#     kind: draw
#     op: aten.uniform_.default
#     cause: torch-seed
#     finds: [seed-after-draws]

import torch
from torch import nn

generator = torch.Generator().manual_seed(42)
x = torch.randn(10, 1, 5, generator=generator)
y = x.sum(dim=2)

lstm = nn.LSTM(5, 10)  # <- diverges
head = nn.Sequential(nn.Dropout(0.1), nn.Linear(10, 1))
optimizer = torch.optim.SGD([*lstm.parameters(), *head.parameters()], lr=0.1)

torch.manual_seed(42)
for epoch in range(10):
    output, _ = lstm(x)
    loss = nn.functional.mse_loss(head(output).squeeze(2), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(epoch, loss.item())
