"""Trains from a DataLoader with two persistent, spawned workers that augment the samples at random."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class NoisyPoints(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(self, points: torch.Tensor) -> None:
        self.points = points

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        point = self.points[index]
        return point + 0.1 * torch.randn_like(point), (point.sum() > 0).float()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    loader = DataLoader(
        NoisyPoints(torch.randn(64, 4)),
        batch_size=16,
        shuffle=True,
        num_workers=2,
        multiprocessing_context="spawn",
        persistent_workers=True,
        generator=torch.Generator().manual_seed(0),
    )
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        for x, labels in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(epoch, repr(loss.item()))
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
