"""Networks that are evaluated after each epoch: one stays in evaluation mode, one is restored, one is frozen from the start."""

import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(16, 4), torch.randn(16, 1)


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)


class Forgotten(Net):
    pass


class Careful(Net):
    pass


class Frozen(Net):
    pass


@torch.no_grad()
def evaluate(model: nn.Module) -> float:
    model.eval()
    return (model(x) - y).square().mean().item()


forgotten = Forgotten()
for epoch in range(3):
    loss = (forgotten(x) - y).square().mean()  # finds: left-in-evaluation
    forgotten.optimizer.zero_grad()
    loss.backward()
    forgotten.optimizer.step()
    evaluate(forgotten)

careful = Careful()
for epoch in range(3):
    careful.train()
    loss = (careful(x) - y).square().mean()  # ok: left-in-evaluation
    careful.optimizer.zero_grad()
    loss.backward()
    careful.optimizer.step()
    evaluate(careful)

frozen = Frozen()
for epoch in range(3):
    frozen.eval()
    loss = (frozen(x) - y).square().mean()  # ok: left-in-evaluation
    frozen.optimizer.zero_grad()
    loss.backward()
    frozen.optimizer.step()
    evaluate(frozen)
