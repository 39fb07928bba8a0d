"""Linear regression by momentum, in one loop; its refactoring is loop_refactored.py."""

import numpy as np

rng = np.random.default_rng(0)
data = rng.standard_normal((60, 6))
truth = rng.standard_normal((6, 6))
target = data @ truth + 0.01 * rng.standard_normal((60, 6))

weights = np.zeros((6, 6))
velocity = np.zeros((6, 6))
losses = []

for epoch in range(6):
    lr = 0.05 * 0.5 ** (epoch // 2)
    for start in range(0, 60, 12):
        x = data[start : start + 12]
        y = target[start : start + 12]
        error = x @ weights - y
        loss = (error**2).mean()
        gradient = 2 * x.T @ error / error.size
        velocity = 0.9 * velocity + gradient
        weights = weights - lr * velocity
    losses.append(loss)
print(losses[-1])
