"""One tensor is forgotten among zeroed ones, an optimizer never zeroes; micro-batches and a critic are correct."""

import torch

torch.manual_seed(0)
x = torch.randn(8, 4)

w, b = torch.randn(4, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
for _ in range(3):
    (x @ w + b).square().mean().backward()  # finds: stale-gradient
    for p in (w, b):
        p.data -= 0.1 * p.grad.data
    w.grad.zero_()

forgetful = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(forgetful.parameters(), lr=0.1)
for _ in range(3):
    forgetful(x).square().mean().backward()  # finds: stale-gradient
    optimizer.step()

careful = torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam(careful.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad(set_to_none=False)
    for part in x.split(2):
        careful(part).square().mean().backward()  # ok: stale-gradient
    torch.nn.utils.clip_grad_norm_(careful.parameters(), 1.0)
    optimizer.step()

generator, critic = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
of_generator = torch.optim.SGD(generator.parameters(), lr=0.1)
of_critic = torch.optim.SGD(critic.parameters(), lr=0.1)
for _ in range(3):
    of_critic.zero_grad()
    (critic(x).mean() - critic(generator(x).detach()).mean()).backward()  # ok: stale-gradient
    of_critic.step()
    of_generator.zero_grad()
    critic(generator(x)).mean().backward()  # ok: stale-gradient
    of_generator.step()
