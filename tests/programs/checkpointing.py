"""Trains with activation checkpointing, one block reentrant and one not, both with dropout."""

import argparse

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.reentrant = self.block()
        self.plain = self.block()
        self.stack = nn.Sequential(self.block(), self.block())
        self.head = nn.Linear(32, 1)

    @staticmethod
    def block() -> nn.Sequential:
        return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        h = h + checkpoint(self.reentrant, h, use_reentrant=True)
        h = h + checkpoint(self.plain, h, use_reentrant=False)
        h = checkpoint_sequential(self.stack, 2, h, use_reentrant=False)
        return self.head(h)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = x.square().sum(dim=1, keepdim=True)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(3):
        for batch_x, batch_y in zip(x.split(16), y.split(16), strict=True):
            loss = nn.functional.mse_loss(model(batch_x), batch_y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(epoch, repr(loss.item()))
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
