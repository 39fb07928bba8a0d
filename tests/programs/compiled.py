"""Trains a small model compiled by torch.compile with its default backend."""

import argparse

import torch
from torch import nn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = x.sin().sum(dim=1, keepdim=True)
    model = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Dropout(0.1), nn.LayerNorm(32), nn.Linear(32, 1))
    compiled = torch.compile(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(3):
        for batch_x, batch_y in zip(x.split(16), y.split(16), strict=True):
            loss = nn.functional.mse_loss(compiled(batch_x), batch_y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(epoch, repr(loss.item()))
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
