"""Iterates over a set of strings."""

import torch

words = {f"word-{k}" for k in range(30)}
print(torch.tensor([int(word[5:]) for word in words])[:5].sum())  # <- enters
