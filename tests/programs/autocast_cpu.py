"""Trains a small convolutional network in bfloat16 under CPU autocast."""

import argparse

import torch
from torch import nn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    x = torch.randn(64, 1, 8, 8)
    labels = (x.mean(dim=(1, 2, 3)) > 0).long()
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.LayerNorm(8 * 8 * 8),
        nn.Dropout(0.1),
        nn.Linear(8 * 8 * 8, 2),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(3):
        for batch_x, batch_labels in zip(x.split(16), labels.split(16), strict=True):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = model(batch_x)
                loss = nn.functional.cross_entropy(output, batch_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(epoch, output.dtype, repr(loss.item()))
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
