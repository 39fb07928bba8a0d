"""A network that is evaluated without eval(), and one that is evaluated with it."""

import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(16, 4), torch.randn(16, 1)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


@torch.no_grad()
def evaluate() -> float:
    return (model(x) - y).square().mean().item()  # finds: dropout-in-evaluation


@torch.no_grad()
def validate() -> float:
    model.eval()
    score = (model(x) - y).square().mean().item()  # ok: dropout-in-evaluation
    model.train()
    return score


for _ in range(3):
    loss = (model(x) - y).square().mean()  # ok: dropout-in-evaluation
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    evaluate()
    validate()
