"""The main process seeds everything, but the augmentation in the workers creates unseeded NumPy generators."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Jitter:
    """Shifts a signal and adds noise to it."""

    def __init__(self, shift: int, noise: float) -> None:
        self.shift = shift
        self.noise = noise

    def __call__(self, signal: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng()  # <- enters
        moved = np.roll(signal, rng.integers(-self.shift, self.shift + 1))
        return moved + rng.normal(0, self.noise, size=moved.shape)


class Waves(Dataset):
    def __init__(self, transform: Jitter) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        wave = np.sin(np.linspace(0, 1 + index % 3, 16) * np.pi)
        return torch.from_numpy(self.transform(wave)).float(), index % 3


def main() -> None:
    np.random.seed(7)
    torch.manual_seed(7)
    loader = DataLoader(Waves(Jitter(2, 0.1)), batch_size=16, shuffle=True, num_workers=2)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 3))
    for epoch in range(2):
        for signals, labels in loader:
            loss = nn.functional.cross_entropy(model(signals), labels)
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
        print(f"epoch {epoch}  loss {loss.item():.8f}")


if __name__ == "__main__":
    main()
