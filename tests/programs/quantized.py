"""Trains with fake quantization, converts to eight bits, and quantizes a second model dynamically."""

import argparse
import warnings

import torch
from torch import nn
from torch.ao import quantization


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant = quantization.QuantStub()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.dequant = quantization.DeQuantStub()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dequant(self.body(self.quant(x)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = x.sin().sum(dim=1, keepdim=True)
    model = Net().train()
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    model = quantization.prepare_qat(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(8):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, repr(loss.item()))
    converted = quantization.convert(model.eval())
    weight = converted.body[0].weight()
    print("eight bits", repr(converted(x).sum().item()), weight.int_repr().sum().item())

    dynamic = quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1)), {nn.Linear}, dtype=torch.qint8)
    print("dynamic", repr(dynamic(x).sum().item()))
    if args.save:
        torch.save({"qat": model.state_dict(), "weight": weight.int_repr(), "dynamic": dynamic(x)}, args.save)


if __name__ == "__main__":
    main()
