"""Goes on from the checkpoint that an earlier run left."""

from pathlib import Path

import torch

checkpoint = Path("checkpoint.pt")
weight = torch.load(checkpoint) if checkpoint.exists() else torch.zeros(3)  # <- enters
weight = weight + 1
torch.save(weight, checkpoint)
print(weight.sum())
