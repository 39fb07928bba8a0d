"""The main process is seeded, but the augmentation in each worker creates its own unseeded NumPy generator."""

# repro-audit:
#   - verdict: diverged
#     kind: draw
#     cause: worker-seed
#     finds: [entropy-seed]

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class NoisySines(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        clean = np.sin(np.arange(8) * (index + 1) / 64)
        noisy = clean + np.random.default_rng().normal(0, 0.1, size=8)  # <- diverges
        return torch.from_numpy(noisy).float(), torch.tensor([index / 64])


torch.manual_seed(0)
loader = DataLoader(NoisySines(), batch_size=16, shuffle=True, num_workers=2, generator=torch.Generator().manual_seed(0))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

for epoch in range(2):
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
