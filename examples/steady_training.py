"""A small correct training script: seeds, a generator for the loader, metrics that are written and never read.

It must produce no finding.
"""

# repro-audit:
#   - verdict: no-divergence-seen

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def seed_everything(seed: int) -> torch.Generator:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def make_data(rows: int) -> TensorDataset:
    x = np.random.randn(rows, 8).astype(np.float32)
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(labels))


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    model.eval()
    x, labels = data.tensors
    return (model(x).argmax(dim=1) == labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--metrics", type=Path, default=Path("steady_metrics.json"))
    args = parser.parse_args()

    generator = seed_everything(0)
    train, test = make_data(256), make_data(64)
    loader = DataLoader(train, batch_size=32, shuffle=True, generator=generator)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)

    metrics = []
    for epoch in range(5):
        model.train()
        for x, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
        scheduler.step()
        metrics.append({"epoch": epoch, "loss": loss.item(), "accuracy": accuracy(model, test)})
        print(metrics[-1])
    args.metrics.write_text(json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    main()
