"""A two-layer regression by RMSprop written out in NumPy; rmsprop_library.py is the same in torch."""

import numpy as np

DTYPE = np.float64
rng = np.random.default_rng(0)
x_all = rng.standard_normal((64, 5)).astype(DTYPE)
y_all = np.tanh(x_all @ rng.standard_normal((5, 2))).astype(DTYPE)
w1, w2 = ((rng.standard_normal(shape) / 2).astype(DTYPE) for shape in ((5, 12), (12, 2)))
square1, square2 = np.zeros_like(w1), np.zeros_like(w2)
lr, alpha, eps = 0.01, 0.99, 1e-8
for step in range(16):
    order = np.arange(16) * 4 + step % 4
    x, y = x_all[order], y_all[order]
    h = np.tanh(x @ w1)
    out = h @ w2
    error = out - y
    loss = (error**2).mean()
    d_out = 2 * error / error.size
    d_w2 = h.T @ d_out
    d_w1 = x.T @ (d_out @ w2.T * (1 - h**2))
    square1 = DTYPE(alpha) * square1 + DTYPE(1 - alpha) * d_w1**2
    square2 = DTYPE(alpha) * square2 + DTYPE(1 - alpha) * d_w2**2
    w1 = w1 - DTYPE(lr) * d_w1 / (np.sqrt(square1) + DTYPE(eps))
    w2 = w2 - DTYPE(lr) * d_w2 / (np.sqrt(square2) + DTYPE(eps))
