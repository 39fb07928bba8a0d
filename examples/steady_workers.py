"""Two DataLoader workers with random augmentation, done correctly: a seeded generator and a worker_init_fn.

It must produce no finding, whatever the order in which the workers run.
"""

# repro-audit:
#   - verdict: no-divergence-seen

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class NoisySines(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        clean = np.sin(np.arange(8) * (index + 1) / 64)
        noisy = torch.from_numpy(clean + np.random.normal(0, 0.1, size=8)).float()
        if random.random() < 0.5:
            noisy = noisy.flip(0)
        return noisy + 0.01 * torch.randn(8), torch.tensor([index / 64])


def seed_worker(worker_id: int) -> None:
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)


def main() -> None:
    torch.manual_seed(0)
    loader = DataLoader(
        NoisySines(),
        batch_size=16,
        shuffle=True,
        num_workers=2,
        worker_init_fn=seed_worker,
        generator=torch.Generator().manual_seed(0),
    )
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    for epoch in range(2):
        for x, y in loader:
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())


if __name__ == "__main__":
    main()
