"""A tensor made by torch.from_numpy changes although no torch op writes it.

A duration is written into the NumPy array, and the tensor shares that memory.
"""

# repro-audit:
#   - verdict: diverged
#     kind: hidden-write
#     cause: clock

import time

import numpy as np
import torch

features = np.linspace(0, 1, 32, dtype=np.float32).reshape(8, 4)
x = torch.from_numpy(features)
weight = torch.full((4, 1), 0.5, requires_grad=True)
target = torch.ones(8, 1)

started = time.perf_counter_ns()
warm_up = (x @ weight - target).square().mean()
print("before", warm_up.item())

features[:, 3] = (time.perf_counter_ns() - started) / 1e6  # <- enters
for step in range(5):
    loss = (x @ weight - target).square().mean()  # <- diverges
    loss.backward()
    with torch.no_grad():
        weight -= 0.01 * weight.grad
        weight.grad.zero_()
    print(step, loss.item())
