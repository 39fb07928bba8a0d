"""exports: aot_function and aot_module, whose backward pass is traced ahead of time."""

import torch
from functorch.compile import aot_function, aot_module, make_boxed_func

torch.manual_seed(0)
seen = []


def compiler(graph, _inputs):
    seen.append(len(graph.graph.nodes))
    return make_boxed_func(graph.forward)


weight = torch.randn(4, 4, requires_grad=True)
x = torch.randn(3, 4)
aot_function(lambda w, x: (x @ w).tanh().sum(), compiler)(weight, x).backward()
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
compiled = aot_module(model, compiler)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    optimizer.zero_grad()
    compiled(x).sum().backward()
    optimizer.step()
print(weight.grad, seen, [p.detach() for p in model.parameters()], dict(model.named_buffers()))
