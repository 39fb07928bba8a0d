"""A network with batch norm that is evaluated without eval(), one that is evaluated with it, and one without running averages."""

import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(16, 4), torch.randn(16, 1)


class Net(nn.Module):
    def __init__(self, averages: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, track_running_stats=averages)
        self.head = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(x))


model = Net(averages=True)
plain = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 1))
for _ in range(3):
    loss = (model(x) - y).square().mean() + (plain(x) - y).square().mean()  # ok: batch-norm-in-evaluation
    loss.backward()
with torch.no_grad():
    val_loss = (model(x) - y).square().mean()  # finds: batch-norm-in-evaluation
    model.eval()
    test_loss = (model(x) - y).square().mean()  # ok: batch-norm-in-evaluation
    plain_loss = (plain(x) - y).square().mean()  # ok: batch-norm-in-evaluation
