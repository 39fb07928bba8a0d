"""Training goes on where the last run ended, because what it saved is still there; nobody asked for that."""

import os

import torch
from torch import nn

FOLDER = "checkpoints"
EPOCHS = 3


def save(**parts: nn.Module | torch.optim.Optimizer) -> None:
    os.makedirs(FOLDER, exist_ok=True)
    for name, part in parts.items():
        torch.save(part.state_dict(), f"{FOLDER}/{name}.pt")


def resume(**parts: nn.Module | torch.optim.Optimizer) -> None:
    for name, part in parts.items():
        path = f"{FOLDER}/{name}.pt"
        if os.path.exists(path):
            part.load_state_dict(torch.load(path))  # <- enters


def main() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x = torch.randn(64, 6)
    y = x.square().sum(dim=1, keepdim=True)

    resume(model=model, optimizer=optimizer)
    for epoch in range(EPOCHS):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}  loss {loss.item():.8f}")
    save(model=model, optimizer=optimizer)


if __name__ == "__main__":
    main()
