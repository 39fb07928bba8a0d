"""subclasses: a tensor that writes down each op, with and without a mode that does the same."""

import torch
from torch.testing._internal.logging_tensor import LoggingTensor, LoggingTensorMode, capture_logs

torch.manual_seed(0)
with capture_logs() as logs:
    x = LoggingTensor(torch.ones(3), requires_grad=True)
    (x * torch.randn(3)).exp().sum().backward()
    with torch.no_grad():
        x -= 0.1 * x.grad
print("\n".join(logs))
with capture_logs() as logs, LoggingTensorMode():
    y = torch.ones(3, requires_grad=True)
    (y.sin() + x).sum().backward()
print("\n".join(logs))
