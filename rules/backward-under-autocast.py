"""A backward pass inside an autocast region, one after it, and one where autocast is off again."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(8, 8)
x = torch.randn(4, 8)


@torch.autocast("cpu", dtype=torch.bfloat16)
def loss_of(model: nn.Module) -> torch.Tensor:
    return model(x).float().mean()


for _ in range(3):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(x).float().pow(2).mean()
        loss.backward()  # finds: backward-under-autocast
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(x).float().pow(2).mean()
        with torch.autocast("cpu", enabled=False):
            loss.backward()  # ok: backward-under-autocast
    loss_of(net).backward()  # ok: backward-under-autocast
net(x).sum().backward()  # ok: backward-under-autocast
