"""exports: make_fx with real, fake and symbolic tracing, of a forward and a backward pass."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx

torch.manual_seed(0)
weight = torch.randn(4, 4, requires_grad=True)


def loss_and_gradient(x, weight):
    loss = torch.nn.functional.dropout(x @ weight, 0.1).tanh().sum()
    return loss, torch.autograd.grad(loss, weight)[0]


x = torch.randn(3, 4)
for how in ("real", "fake", "symbolic"):
    graph = make_fx(loss_and_gradient, tracing_mode=how)(x, weight)
    print(how, [str(node.target) for node in graph.graph.nodes])
    print(graph(x, weight)[0], torch.randn(1))
print(graph.code)
