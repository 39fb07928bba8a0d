"""REINFORCE on a walk along a line, with its gradient written out in NumPy; reinforce_library.py is the same in torch."""

import numpy as np

DTYPE = np.float64
rng = np.random.default_rng(0)
theta = (rng.standard_normal((4, 2)) / 4).astype(DTYPE)
gamma, lr = 0.9, 0.1
for episode in range(15):
    position, observations, actions, rewards = 0.0, [], [], []
    for _t in range(12):
        s = np.array([1.0, position, np.sin(position), position**2 / 10], DTYPE)
        scores = s @ theta
        policy = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        a = int(rng.random() > policy[0])
        position = position + (0.5 if a else -0.5)
        observations.append(s)
        actions.append(a)
        rewards.append(-abs(position - 1.0))
    returns = np.zeros(12, DTYPE)
    future = 0.0
    for t in reversed(range(12)):
        future = rewards[t] + gamma * future
        returns[t] = future
    total = sum(rewards)
    advantage = (returns - returns.mean()) / (returns.std(ddof=1) + 1e-8)
    obs, taken = np.stack(observations), np.eye(2, dtype=DTYPE)[actions]
    e = np.exp(obs @ theta - (obs @ theta).max(1, keepdims=True))
    probs = e / e.sum(1, keepdims=True)
    loss = -(np.log((probs * taken).sum(1)) * advantage).sum()
    gradient = obs.T @ ((probs - taken) * advantage[:, None])
    theta = theta - DTYPE(lr) * gradient
