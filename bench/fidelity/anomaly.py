"""introspection: anomaly mode, which prints the stack of the forward op; gradcheck; saved tensors that were changed."""

import torch

torch.manual_seed(0)
print(torch.autograd.gradcheck(lambda x: x.sin() * x, (torch.randn(3, dtype=torch.float64, requires_grad=True),)))


def forward(x):
    return torch.sqrt(x).sum()


with torch.autograd.detect_anomaly(check_nan=True):
    try:
        (forward(torch.tensor([-1.0], requires_grad=True)) * 0).backward()
    except RuntimeError as error:
        print(error)
x = torch.ones(2, requires_grad=True)
y = x.exp()
y.add_(1)
try:
    y.sum().backward()
except RuntimeError as error:
    print(error)
