"""Training resumes from the last run unintentionally, because the checkpoint is still there."""

import os

import torch
from torch import nn

FOLDER = "checkpoints"
EPOCHS = 3


def save(**parts: nn.Module) -> None:
    os.makedirs(FOLDER, exist_ok=True)
    for name, part in parts.items():
        torch.save(part.state_dict(), f"{FOLDER}/{name}.pt")


def resume(**parts: nn.Module) -> None:
    for name, part in parts.items():
        path = f"{FOLDER}/{name}.pt"
        if os.path.exists(path):
            part.load_state_dict(torch.load(path))  # <- enters


def main() -> None:
    torch.manual_seed(3)
    body = nn.Sequential(nn.Linear(6, 12), nn.ReLU())
    head = nn.Linear(12, 1)
    x = torch.randn(64, 6)
    y = x.square().sum(dim=1, keepdim=True)

    resume(body=body, head=head)
    for epoch in range(EPOCHS):
        loss = nn.functional.mse_loss(head(body(x)), y)
        loss.backward()
        with torch.no_grad():
            for parameter in (*body.parameters(), *head.parameters()):
                parameter -= 0.05 * parameter.grad
                parameter.grad = None
        print(f"epoch {epoch}  loss {loss.item():.8f}")
    save(body=body, head=head)


if __name__ == "__main__":
    main()
