"""Is an LSTM regression model consistent? Too much: it returns the same output for every input.

The ReLU after the head dies in the first steps of training, and the loss no longer changes.
"""

# repro-audit:
#   - verdict: no-divergence-seen
#     finds: [constant-output]

import torch
from torch import nn


class Regressor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 10)
        self.head = nn.Linear(10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output, _ = self.lstm(x)
        return torch.relu(self.head(output[-1]))


torch.manual_seed(42)
x = torch.randn(10, 32, 5)
y = x.mean(dim=(0, 2)).unsqueeze(1) - 1
model = Regressor()
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

for epoch in range(20):
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(epoch, loss.item())

with torch.no_grad():
    print("predictions:", model(torch.randn(10, 5, 5)).squeeze(1).tolist())
