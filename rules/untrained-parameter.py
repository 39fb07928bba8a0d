"""The head is created after the optimizer; in the second loop the part that is not trained is frozen."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)

body = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
head = torch.nn.Linear(4, 1)
for _ in range(3):
    optimizer.zero_grad()
    head(body(x)).square().mean().backward()  # finds: untrained-parameter
    optimizer.step()

frozen = torch.nn.Linear(4, 4).requires_grad_(False)
trained = torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam(trained.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    trained(frozen(x)).square().mean().backward()  # ok: untrained-parameter
    optimizer.step()
