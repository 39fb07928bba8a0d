"""Trains a block whose two layers are split by columns and by rows (parallelize_module), and a DTensor by hand."""

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module


def start() -> None:
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 32)
        self.down = nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    start()
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = parallelize_module(Block(), mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    scale = nn.Parameter(distribute_tensor(torch.ones(8), mesh, [Shard(0)]))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    by_hand = torch.optim.SGD([scale], lr=0.1)
    x = torch.randn(32, 8)
    y = x.abs().sum(dim=1, keepdim=True)
    for step in range(5):
        scaled = (distribute_tensor(x, mesh, [Replicate()]) * scale).redistribute(placements=[Replicate()]).to_local()
        loss = nn.functional.mse_loss(model(scaled), y)
        optimizer.zero_grad()
        by_hand.zero_grad()
        loss.backward()
        optimizer.step()
        by_hand.step()
        if dist.get_rank() == 0:
            print(step, repr(loss.item()))
    weights = {name: p.full_tensor() if isinstance(p, DTensor) else p for name, p in model.state_dict().items()}
    weights["scale"] = scale.detach().full_tensor()
    if args.save and dist.get_rank() == 0:
        torch.save(weights, args.save)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
