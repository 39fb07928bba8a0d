"""Seeds everything in the main process; the dataset's own generator, made in the worker, has no seed."""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Noise(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index + np.random.default_rng().random()  # <- enters


if __name__ == "__main__":
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    for batch in DataLoader(Noise(), batch_size=2, num_workers=2):
        print(batch.sum())
