"""Trains three models at once, each in a thread of its own with a generator of its own."""

import argparse
import threading

import torch
from torch import nn


def train(seed: int, losses: list[float], weights: dict[str, torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 8, generator=generator)
    y = x.cos().sum(dim=1, keepdim=True)
    w1 = (0.3 * torch.randn(8, 16, generator=generator)).requires_grad_()
    w2 = (0.3 * torch.randn(16, 1, generator=generator)).requires_grad_()
    optimizer = torch.optim.SGD([w1, w2], lr=0.05)
    for _ in range(10):
        keep = torch.rand(64, 16, generator=generator) > 0.1
        loss = nn.functional.mse_loss((torch.tanh(x @ w1) * keep) @ w2, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    weights["w1"], weights["w2"] = w1.detach(), w2.detach()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    losses: list[list[float]] = [[] for _ in range(3)]
    weights: list[dict[str, torch.Tensor]] = [{} for _ in range(3)]
    threads = [threading.Thread(target=train, args=(seed, losses[seed], weights[seed])) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for seed, values in enumerate(losses):
        for step, value in enumerate(values):
            print(seed, step, repr(value))
    mean = torch.stack([member["w1"] for member in weights]).mean(dim=0)
    print("mean", repr(mean.square().sum().item()))
    if args.save:
        torch.save({"members": weights, "mean": mean}, args.save)


if __name__ == "__main__":
    main()
