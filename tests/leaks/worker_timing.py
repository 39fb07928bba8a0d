"""Uses the batches of two workers in the order of their arrival."""

import torch
from torch.utils.data import DataLoader

torch.manual_seed(0)
for batch in DataLoader(torch.arange(400.0), batch_size=2, num_workers=2, in_order=False):  # <- enters
    print(batch.sum())
