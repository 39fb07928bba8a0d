"""One head is not used, the output of another is not in the loss; the third is."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)

body = torch.nn.Linear(4, 4)
unused = torch.nn.Linear(4, 1)  # finds: parameter-without-gradient
forgotten = torch.nn.Linear(4, 2)  # finds: parameter-without-gradient
head = torch.nn.Linear(4, 1)  # ok: parameter-without-gradient
optimizer = torch.optim.SGD([*body.parameters(), *unused.parameters(), *forgotten.parameters(), *head.parameters()], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    features = body(x)
    beside = forgotten(features).mean()
    head(features).square().mean().backward()
    optimizer.step()
