"""subclasses: one that has only a __torch_function__, as a parameter, in foreach ops, in place, pickled; one without anything."""

import pickle
from collections import Counter
from typing import ClassVar

import torch


class Counted(torch.Tensor):
    seen: ClassVar = Counter()

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen[getattr(func, "__name__", "?")] += 1
        return super().__torch_function__(func, types, args, kwargs)


class Plain(torch.Tensor):
    pass


class Direct(torch.Tensor):
    """Calls on without switching itself off."""

    calls: ClassVar = Counter()

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        Direct.calls[getattr(func, "__name__", "?")] += 1
        if func in (torch.Tensor.add, torch.Tensor.sum):
            return func(*(a.as_subclass(torch.Tensor) if isinstance(a, Direct) else a for a in args))
        return super().__torch_function__(func, types, args, kwargs)


for cls in (Counted, Plain, Direct):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3).as_subclass(cls))
    other = torch.randn(2).as_subclass(cls).requires_grad_()
    for optimizer in (torch.optim.SGD([weight, other], lr=0.1, foreach=True), torch.optim.Adam([weight, other], lr=0.1, foreach=False)):
        for _ in range(2):
            optimizer.zero_grad()
            loss = ((weight - 1) ** 2).sum() + other.add(1).sum()
            torch.autograd.backward([loss])
            optimizer.step()
    print(type(weight), type(weight * 2), weight.detach().tolist(), type(torch.cat([weight, other])))
    print(pickle.loads(pickle.dumps(other)).tolist())
print(sum(Counted.seen.values()), sorted(Counted.seen.items()), sorted(Direct.calls.items()))
