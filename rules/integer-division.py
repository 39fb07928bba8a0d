"""Accuracies that are rounded down, one that is not, and positions, lengths and numbers of groups."""

import torch

torch.manual_seed(0)
guesses, labels = torch.randint(0, 3, (50,)), torch.randint(0, 3, (50,))
for _ in range(2):
    accuracy = (guesses == labels).sum() // 50  # finds: integer-division
    print(accuracy.item())
by_row = (guesses == labels).view(5, 10).sum(1).div(2, rounding_mode="floor")  # finds: integer-division
mean = by_row.float().mean()
right = (guesses == labels).sum() / 50  # ok: integer-division
groups = ((guesses == labels).sum() // 4).item()  # ok: integer-division
lengths = guesses.view(5, 10).bool().sum(1) // 2  # ok: integer-division
inside = torch.arange(5) < lengths[:, None]
frequency = (torch.arange(10) // 2).float()  # ok: integer-division
