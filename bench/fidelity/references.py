"""introspection: reference counts, weak references, cycles and finalizers of tensors, modules and graphs."""

import gc
import sys
import weakref

import torch

x = torch.ones(3, requires_grad=True)
y = (x * 2).sin()
print(sys.getrefcount(x), sys.getrefcount(y), sys.getrefcount(y.grad_fn))
dead = []
reference = weakref.ref(y, dead.append)
node = weakref.ref(y.grad_fn) if False else None
del y
print(len(dead), reference())
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    optimizer.zero_grad()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
weak = [weakref.ref(model), weakref.ref(optimizer), *(weakref.ref(parameter) for parameter in model.parameters())]
print(sys.getrefcount(model), sys.getrefcount(model.weight))
del optimizer, model
gc.collect()
print([reference() is None for reference in weak])
gc.collect()
before = sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())
kept = [torch.ones(2) for _ in range(10)]
print(sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()) - before, gc.garbage)


class Counted(torch.Tensor):
    died = 0

    def __del__(self):
        Counted.died += 1


for _ in range(5):
    torch.ones(2).as_subclass(Counted) + 1
print(Counted.died, torch.ones(2).untyped_storage().data_ptr() != 0)
