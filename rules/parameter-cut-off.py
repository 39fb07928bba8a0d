"""The body's output is detached, and then computed under no_grad; a body that is frozen is no fault."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)

body, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    features = body(x).relu().detach()  # finds: parameter-cut-off
    head(features).square().mean().backward()
    optimizer.step()

deep, head = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4)), torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam([*deep.parameters(), *head.parameters()], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    with torch.no_grad():
        features = deep(x)  # finds: parameter-cut-off
    head(features).square().mean().backward()
    optimizer.step()

frozen, last = torch.nn.Linear(4, 4).requires_grad_(False), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD([*frozen.parameters(), *last.parameters()], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    features = frozen(x)  # ok: parameter-cut-off
    print(features.detach().mean(), last(features).detach().mean())  # ok: parameter-cut-off
    last(features).square().mean().backward()
    optimizer.step()
