"""Resumes from the checkpoint of an earlier run."""

from pathlib import Path

import torch

checkpoint = Path("checkpoint.pt")
weight = torch.load(checkpoint) if checkpoint.exists() else torch.zeros(3)  # <- enters
weight = weight + 1
torch.save(weight, checkpoint)
print(weight.sum())
