"""transforms: functionalize, alone and under vmap, and a graph of it."""

import torch
from torch.func import functionalize, vmap
from torch.fx.experimental.proxy_tensor import make_fx

torch.manual_seed(0)


def in_place(x):
    y = x.clone()
    y.view(-1)[0] = 3
    y.add_(1)
    x.mul_(2)
    return y[0] * x


x = torch.randn(3, 2)
print(functionalize(in_place)(x), x)
print(vmap(functionalize(in_place))(torch.randn(2, 3, 2)))
print(make_fx(functionalize(in_place, remove="mutations_and_views"))(x).code)
