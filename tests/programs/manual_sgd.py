"""Trains a two-layer network without an optimizer, by updates of `.data`."""

import argparse

import torch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    x = torch.randn(128, 6)
    y = (x[:, :1] * x[:, 1:2]).tanh()
    w1 = (0.5 * torch.randn(6, 24)).requires_grad_()
    b1 = torch.zeros(24, requires_grad=True)
    w2 = (0.5 * torch.randn(24, 1)).requires_grad_()
    b2 = torch.zeros(1, requires_grad=True)
    parameters = [w1, b1, w2, b2]
    velocity = [torch.zeros_like(p) for p in parameters]

    for epoch in range(4):
        for rows in torch.randperm(len(x)).split(32):
            hidden = torch.relu(x[rows] @ w1 + b1)
            loss = (hidden @ w2 + b2 - y[rows]).pow(2).mean()
            loss.backward()
            for p, v in zip(parameters, velocity, strict=True):
                v.mul_(0.9).add_(p.grad.data)
                p.data -= 0.05 * v
                p.grad.data.zero_()
            print(epoch, repr(loss.item()))
    if args.save:
        torch.save({"w1": w1.detach(), "b1": b1.detach(), "w2": w2.detach(), "b2": b2.detach()}, args.save)


if __name__ == "__main__":
    main()
