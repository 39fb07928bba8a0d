"""An optimizer holds another model, and gradients are discarded manually; a correct loop."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)

first, second = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    second(x).square().mean().backward()  # finds: unused-gradients
    optimizer.step()

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(x).square().mean().backward()  # finds: unused-gradients
    for parameter in model.parameters():
        parameter.grad = None
    optimizer.step()

fine = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(fine.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    fine(x).square().mean().backward()  # ok: unused-gradients
    optimizer.step()
