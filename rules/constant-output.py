"""A network that dies in training, one that learns, and a softmax over a single class."""

import torch
from torch import nn


class Dead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.head(x))  # finds: constant-output


torch.manual_seed(0)
dead, alive, single = Dead(), nn.Linear(3, 1), nn.Sequential(nn.Linear(3, 1), nn.Softmax(dim=1))
optimizer = torch.optim.SGD([*dead.parameters(), *alive.parameters(), *single.parameters()], lr=0.5)
for _ in range(6):
    x = torch.randn(8, 3)
    loss = (dead(x) + 9).square().mean()
    loss = loss + (alive(x) - 1).square().mean()  # ok: constant-output
    loss = loss + (single(x) - 0.5).square().mean()  # finds: constant-output
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
