"""The seed is set after the model was built, so its initial weights differ in every run."""

import argparse
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def set_seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Classifier(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Linear(8, hidden)  # <- enters
        self.head = nn.Linear(hidden, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--hidden", type=int, default=16)
    args = parser.parse_args()

    model = Classifier(args.hidden)

    set_seed(args.seed)
    x = torch.randn(96, 8)
    y = x[:, :3].argmax(dim=1)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

    for epoch in range(2):
        for inputs, labels in loader:
            loss = nn.functional.cross_entropy(model(inputs), labels)
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
        print(f"epoch {epoch}  loss {loss.item():.8f}")


if __name__ == "__main__":
    main()
