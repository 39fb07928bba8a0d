"""Trains a model whose blocks are sharded by fully_shard (FSDP2): two processes under a launcher, else one."""

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


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
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (ranks,))
    model = nn.Sequential(nn.Linear(8, 16), nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.Tanh()), nn.Linear(16, 1))
    for part in model:
        if any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    x = torch.randn(64, 8)
    y = x.cos().sum(dim=1, keepdim=True)
    for step in range(6):
        rows = slice(rank + step, None, ranks)
        loss = nn.functional.mse_loss(model(x[rows]), y[rows])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        shown = loss.detach().clone()
        dist.all_reduce(shown)
        if rank == 0:
            print(step, repr(shown.item()))
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    if args.save and rank == 0:
        torch.save(weights, args.save)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
