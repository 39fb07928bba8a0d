"""modes: TorchFunctionModes, one and two, with optimizers, autograd.backward, new modules, saved and loaded tensors."""

import io
from collections import Counter

import torch
from torch.overrides import TorchFunctionMode


class Count(TorchFunctionMode):
    def __init__(self):
        self.seen = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen[getattr(func, "__name__", "?")] += 1
        return func(*args, **(kwargs or {}))


outer, inner = Count(), Count()
torch.manual_seed(0)
with outer, inner:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(torch.randn(5, 3)).square().mean()
        torch.autograd.backward([loss])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        loss.item()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    model.load_state_dict(torch.load(file))
    script = torch.jit.script(torch.nn.ReLU())
    script(torch.ones(1))
    torch.Generator().manual_seed(1)
    torch.bernoulli(torch.ones(2) / 2)
for mode in (outer, inner):
    print(sum(mode.seen.values()), sorted(mode.seen.items()))
with torch.device("meta"), outer:
    print(torch.empty(2).device, torch.nn.Linear(2, 2).weight.device)
