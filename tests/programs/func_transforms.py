"""Trains with per-sample gradients of torch.func (vmap, grad, hessian) through a custom autograd.Function."""

import argparse

import torch
from torch import nn
from torch.func import functional_call, grad, grad_and_value, hessian, vmap


class Softsign(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x / (1 + x.abs())

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return gradient / (1 + x.abs()).square()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 8)
        self.outer = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(Softsign.apply(self.inner(x)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    x = torch.randn(32, 4)
    y = x.prod(dim=1, keepdim=True)
    model = Net()
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}

    def sample_loss(parameters: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (functional_call(model, parameters, (x,)) - y).square().mean()

    per_sample = vmap(grad_and_value(sample_loss), in_dims=(None, 0, 0))
    for step in range(8):
        gradients, losses = per_sample(parameters, x, y)
        norm = torch.stack([g.flatten(1).square().sum(dim=1) for g in gradients.values()]).sum(dim=0).sqrt()
        scale = (1.0 / norm).clamp(max=1.0)
        for name, g in gradients.items():
            clipped = torch.einsum("b,b...->...", scale, g) / len(x)
            parameters[name] = parameters[name] - 0.1 * (clipped + 0.01 * torch.randn_like(clipped))
        print(step, repr(losses.mean().item()))

    curvature = hessian(lambda bias: sample_loss({**parameters, "outer.bias": bias}, x, y))(parameters["outer.bias"])
    slopes = vmap(grad(lambda row: functional_call(model, parameters, (row,)).sum()))(x)
    leaf = x.clone().requires_grad_()
    functional_call(model, parameters, (leaf,)).sum().backward()
    print("curvature", repr(curvature.item()), "slopes", repr(slopes.square().sum().item()))
    print("same slopes", torch.allclose(slopes, leaf.grad))
    if args.save:
        torch.save({"parameters": parameters, "curvature": curvature, "slopes": slopes}, args.save)


if __name__ == "__main__":
    main()
