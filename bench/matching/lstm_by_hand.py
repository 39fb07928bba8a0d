"""An LSTM written out in NumPy with a trained readout; lstm_library.py is the same in torch."""

import numpy as np

DTYPE = np.float64


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


rng = np.random.default_rng(0)
data = rng.standard_normal((8, 7, 4, 3)).astype(DTYPE)
target = np.sin(data.sum((1, 3)))[..., None].astype(DTYPE)
w_ih, w_hh = ((rng.standard_normal(shape) / 2).astype(DTYPE) for shape in ((20, 3), (20, 5)))
b_ih, b_hh = ((rng.standard_normal(20) / 4).astype(DTYPE) for _ in range(2))
w_out = rng.standard_normal((5, 1)).astype(DTYPE)
for x, y in zip(data, target, strict=True):
    h, c = np.zeros((4, 5), DTYPE), np.zeros((4, 5), DTYPE)
    for x_t in x:
        gates = x_t @ w_ih.T + b_ih + h @ w_hh.T + b_hh
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    last = h.copy()
    out = last @ w_out
    error = out - y
    loss = (error**2).mean()
    grad = 2 * last.T @ error / error.size
    w_out = w_out - DTYPE(0.1) * grad
