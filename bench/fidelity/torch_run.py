"""launchers: torchrun with two ranks that train with DDP, and one whose rank fails."""

import os
import subprocess
import sys

import torch
import torch.distributed as dist


def train():
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(torch.full((2, 4), float(step + dist.get_rank()))).sum().backward()
        optimizer.step()
    with open(f"rank-{dist.get_rank()}.txt", "w") as file:
        print([parameter.tolist() for parameter in model.parameters()], sys.argv[1:], __name__, file=file)
    dist.destroy_process_group()


if "RANK" in os.environ:
    if sys.argv[1] == "fail":
        sys.exit(int(os.environ["RANK"]) * 7)
    train()
else:
    for word in ("train", "fail"):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, word]
        done = subprocess.run(command, stderr=subprocess.DEVNULL)
        print(word, done.returncode)
