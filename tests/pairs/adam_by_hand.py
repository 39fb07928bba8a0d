"""A network and Adam by hand, in NumPy; adam_library.py is the same in torch."""

import numpy as np


def adam(g, m, v, t):
    m += 0.1 * (g - m)
    v += 0.001 * (g * g - v)
    corrected = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return 0.01 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)


rng = np.random.default_rng(0)
data = rng.standard_normal((64, 8))
target = np.sin(data[:, :4]) + 0.1 * rng.standard_normal((64, 4))
w1 = rng.standard_normal((8, 8)) / 3
w2 = rng.standard_normal((8, 4)) / 3
b1 = np.zeros(8)

moments = [[np.zeros_like(w), np.zeros_like(w)] for w in (w1, b1, w2)]
t = 0
for _epoch in range(4):
    for start in range(0, 64, 16):
        x = data[start : start + 16]
        y = target[start : start + 16]
        h = np.tanh(x @ w1 + b1)
        out = h @ w2
        error = out - y
        loss = (error**2).mean()
        d_out = 2 * error / error.size
        d_h = (d_out @ w2.T) * (1 - h**2)
        t += 1
        w1 -= adam(x.T @ d_h, *moments[0], t)
        b1 -= adam(d_h.sum(0), *moments[1], t)
        w2 -= adam(h.T @ d_out, *moments[2], t)
        prediction = np.tanh(data[:4] @ w1 + b1) @ w2
print(loss)
