"""A dataset's own generator is copied into every worker; torch's stream differs in each."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return 8

    def __getitem__(self, k):
        shift = self.rng.normal()  # finds: alike-workers
        return k + shift + torch.rand(())  # ok: alike-workers


if __name__ == "__main__":
    torch.manual_seed(0)
    for batch in DataLoader(Noisy(), batch_size=2, num_workers=2):
        batch.sum()
