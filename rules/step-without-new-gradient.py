"""step() is called twice; two optimizers alternate, gradients are accumulated, and set manually."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()  # ok: step-without-new-gradient
    optimizer.step()  # finds: step-without-new-gradient

left, right = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)
of_left, of_right = torch.optim.Adam(left.parameters()), torch.optim.Adam(right.parameters())
for _ in range(3):
    of_left.zero_grad()
    of_right.zero_grad()
    left(x).square().mean().backward()
    of_left.step()  # ok: step-without-new-gradient
    right(x).square().mean().backward()
    of_right.step()  # ok: step-without-new-gradient

optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    for part in x.split(4):
        model(part).square().mean().backward()
    optimizer.step()  # ok: step-without-new-gradient
for k in range(3):
    model.weight.grad = torch.full_like(model.weight, k)
    optimizer.step()  # ok: step-without-new-gradient
