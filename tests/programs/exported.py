"""Trains a model exported by torch.export and one traced by make_fx, then exports the trained model."""

import argparse

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    x = torch.randn(32, 4)
    y = x.square().sum(dim=1, keepdim=True)
    model = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 1))
    batch = torch.export.Dim("batch", min=2)
    trained = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).module()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.9)
    for step in range(8):
        rows = torch.randperm(32)[:12]
        loss = nn.functional.mse_loss(trained(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, repr(loss.item()))

    weight = torch.randn(4, 1, requires_grad=True)

    def slope(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad((x @ weight - y).square().mean(), weight)[0]

    graph = make_fx(slope, tracing_mode="symbolic")(x, y, weight)
    learnt = weight.detach().clone()
    for _ in range(5):
        learnt = learnt - 0.1 * graph(x, y, learnt.requires_grad_()).detach()
    print("by hand", repr(learnt.norm().item()))
    final = torch.export.export(trained, (x,), strict=False)
    print(len(final.graph.nodes), repr(final.module()(x).sum().item()))
    if args.save:
        torch.save({"model": trained.state_dict(), "learnt": learnt.detach()}, args.save)


if __name__ == "__main__":
    main()
