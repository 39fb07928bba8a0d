"""Trains with DistributedDataParallel: two processes under a launcher, else one; gradients accumulate over two batches."""

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def start() -> None:
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    start()
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    data = TensorDataset(x, x.sin().sum(dim=1, keepdim=True))
    sampler = DistributedSampler(data, seed=3)
    loader = DataLoader(data, batch_size=8, sampler=sampler)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Linear(16, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        total = torch.zeros(())
        for number, (batch_x, batch_y) in enumerate(loader):
            loss = nn.functional.mse_loss(model(batch_x), batch_y)
            if number % 2:
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            else:
                with model.no_sync():
                    loss.backward()
            total += loss.detach()
        dist.all_reduce(total)
        if dist.get_rank() == 0:
            print(epoch, repr(total.item()))
    if args.save and dist.get_rank() == 0:
        torch.save(model.module.state_dict(), args.save)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
