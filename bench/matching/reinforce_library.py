"""What reinforce_by_hand.py does, with autograd of torch."""

import numpy as np
import torch

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(0)
theta = torch.tensor(rng.standard_normal((4, 2)) / 4, dtype=torch.get_default_dtype(), requires_grad=True)
optimizer = torch.optim.SGD([theta], lr=0.1)
discount = 0.9
for _episode in range(15):
    position, states, log_probs, rewards = 0.0, [], [], []
    for _t in range(12):
        state = torch.tensor([1.0, position, np.sin(position), position**2 / 10], dtype=torch.get_default_dtype())
        log_policy = torch.log_softmax(state @ theta, 0)
        action = int(rng.random() > log_policy[0].exp().item())
        log_probs.append(log_policy[action])
        position = position + (0.5 if action else -0.5)
        states.append(state)
        rewards.append(-abs(position - 1.0))
    powers = discount ** torch.arange(12)
    reward = torch.tensor(rewards, dtype=torch.get_default_dtype())
    returns = torch.stack([(powers[: 12 - t] * reward[t:]).sum() for t in range(12)])
    total = sum(rewards)
    advantage = (returns - returns.mean()) / (returns.std() + 1e-8)
    obs = torch.stack(states)
    loss = -(torch.stack(log_probs) * advantage).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
