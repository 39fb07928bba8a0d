"""transforms: grad, vmap with random numbers, jvp, jacobians, hessian, linearize, and backward within vmap."""

import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

torch.manual_seed(0)
x = torch.randn(5)


def f(x):
    return (x.sin() * x.cumsum(0)).sum()


print(grad(f)(x), vmap(grad(f))(torch.randn(3, 5)), hessian(f)(x))
print(jvp(f, (x,), (torch.ones(5),)), vjp(f, x)[1](torch.ones(())), jacfwd(torch.sin)(x).diag(), jacrev(torch.cos)(x).diag())
value, tangent = linearize(f, x)
print(value, tangent(torch.ones(5)))
print(vmap(lambda x: x + torch.randn(5), randomness="different")(torch.zeros(2, 5)))
print(vmap(lambda x: x + torch.randn(5), randomness="same")(torch.zeros(2, 5)))
try:
    vmap(lambda x: x.sum().item())(torch.zeros(2, 5))
except RuntimeError as error:
    print(str(error)[:60])
