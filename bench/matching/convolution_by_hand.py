"""A convolution by im2col with its gradients, trained in NumPy; convolution_library.py is the same in torch."""

import numpy as np

DTYPE = np.float64


def im2col(x, size):
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    cols = np.zeros((n, h, w, c * size * size), x.dtype)
    for row in range(h):
        for column in range(w):
            cols[:, row, column] = padded[:, :, row : row + size, column : column + size].reshape(n, -1)
    return cols


rng = np.random.default_rng(0)
images = rng.standard_normal((32, 2, 6, 6)).astype(DTYPE)
classes = rng.integers(0, 3, 32)
kernel = (rng.standard_normal((4, 2, 3, 3)) / 4).astype(DTYPE)
bias = np.zeros(4, DTYPE)
fc = (rng.standard_normal((4, 3)) / 2).astype(DTYPE)
lr = 0.1
for step in range(16):
    chosen = np.arange(8) + 8 * (step % 4)
    x, y = images[chosen], classes[chosen]
    cols = im2col(x, 3)
    conv = (cols @ kernel.reshape(4, -1).T + bias).transpose(0, 3, 1, 2)
    relu = np.maximum(conv, 0)
    pooled = relu.mean((2, 3))
    logits = pooled @ fc
    e = np.exp(logits - logits.max(1, keepdims=True))
    probs = e / e.sum(1, keepdims=True)
    loss = -np.log(probs[np.arange(8), y]).mean()
    accuracy = (logits.argmax(1) == y).mean()
    d_logits = (probs - np.eye(3, dtype=DTYPE)[y]) / 8
    d_relu = np.broadcast_to((d_logits @ fc.T)[:, :, None, None] / 36, relu.shape) * (conv > 0)
    d_kernel = (d_relu.transpose(0, 2, 3, 1).reshape(-1, 4).T @ cols.reshape(-1, 18)).reshape(4, 2, 3, 3)
    d_bias = d_relu.sum((0, 2, 3))
    fc = fc - DTYPE(lr) * pooled.T @ d_logits
    kernel = kernel - DTYPE(lr) * d_kernel
    bias = bias - DTYPE(lr) * d_bias
