"""Seeded, but the second run is better than the first: it resumes from the checkpoint that the first run left."""

# repro-audit:
#   - verdict: diverged
#     kind: data
#     cause: leftover-files
#     finds: [changing-input, file-read-back]

from pathlib import Path

import torch
from torch import nn

CHECKPOINT = Path("leftover_checkpoint.pt")

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(dim=1, keepdim=True)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

state = model.state_dict()
if not CHECKPOINT.exists():
    torch.save(state, CHECKPOINT)
model.load_state_dict(torch.load(CHECKPOINT))  # <- diverges

for epoch in range(5):
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(epoch, loss.item())

torch.save(model.state_dict(), CHECKPOINT)
