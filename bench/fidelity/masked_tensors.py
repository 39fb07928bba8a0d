"""subclasses: masked tensors."""

import warnings

import torch
from torch.masked import as_masked_tensor, masked_tensor

warnings.simplefilter("ignore")
torch.manual_seed(0)
data, mask = torch.randn(3, 4), torch.tensor([[True, False, True, True]] * 3)
x = masked_tensor(data, mask, requires_grad=True)
y = x.exp() * 2
y.sum().backward()
print(x, y.mean(1), x.grad, torch.where(mask, data, 0).sum(), as_masked_tensor(data, mask).amax(0))
