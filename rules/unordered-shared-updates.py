"""Hogwild: two processes train one model; and a shared table that nothing trains."""

import torch
from torch import multiprocessing as mp
from torch import nn


def train(model):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()


if __name__ == "__main__":
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    model.share_memory()  # finds: unordered-shared-updates
    workers = [mp.get_context("fork").Process(target=train, args=(model,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    torch.zeros(3).share_memory_()  # ok: unordered-shared-updates
