"""introspection: warnings of the script and of torch, their lines, filters, once and as errors."""

import warnings

import torch


def old():
    warnings.warn("old", DeprecationWarning, stacklevel=2)


old()
for _ in range(3):
    warnings.warn("thrice")
print(len(warnings.filters))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    old()
    torch.nn.functional.mse_loss(torch.ones(3), torch.ones(1, 3).T)
    torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1), 1).step()
    torch.tensor(torch.ones(1))
    torch.from_numpy(__import__("numpy").broadcast_to(1.0, (2,)))
print([(one.category.__name__, one.filename.rpartition("/")[2], one.lineno, str(one.message)[:60]) for one in caught])
with warnings.catch_warnings():
    warnings.simplefilter("error")
    try:
        torch.nn.functional.mse_loss(torch.ones(2), torch.ones(2, 1))
    except UserWarning as error:
        print(type(error).__name__)
