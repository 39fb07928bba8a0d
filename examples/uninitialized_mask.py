"""A mask made by torch.empty is used before it is filled, so it has the old content of the memory."""

# repro-audit:
#   - verdict: diverged
#     kind: uninitialized
#     cause: uninitialized-memory
#     finds: [uninitialized-read]

import torch
from torch import nn


def vocabulary(size: int) -> dict[str, int]:
    words = sorted([f"word-{i}" for i in range(size)])
    return {word: index for index, word in enumerate(words)}


torch.manual_seed(0)
vocab = vocabulary(8192)
tokens = torch.tensor([[vocab[f"word-{(i * 31 + j) % 8192}"] for j in range(64)] for i in range(64)])
embedding = nn.Embedding(len(vocab), 16)
head = nn.Linear(16, 1)

scores = head(embedding(tokens)).squeeze(2)
mask = torch.empty(64, 64, dtype=torch.uint8)  # <- enters
masked = scores * mask  # <- diverges
print("score", masked.sum().item() / 64)
