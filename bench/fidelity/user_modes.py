"""modes: a logging mode and a counting one, nested, entered twice, left in another order than they were entered."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack


class Log(TorchDispatchMode):
    def __init__(self, name):
        super().__init__()
        self.name, self.seen = name, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Doubles(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        return out * 2 if func is torch.ops.aten.relu.default else out


torch.manual_seed(0)
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
a, b = Log("a"), Log("b")
with a, Doubles(), b, a:
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).relu().sum().backward()
        optimizer.step()
a.__enter__()
b.__enter__()
torch.ones(1).add_(1)
a.__exit__(None, None, None)
torch.ones(1).mul_(1)
b.__exit__(None, None, None)
print(len(a.seen), len(b.seen), a.seen, b.seen, model.weight)
with a:
    print([type(mode).__name__ for mode in _get_current_dispatch_mode_stack()[-1:]])
try:
    with a:
        torch.ones(2) + torch.ones(3)
except RuntimeError as error:
    print(error)
