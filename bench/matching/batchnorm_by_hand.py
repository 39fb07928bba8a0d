"""Batch normalization written out, forwards and backwards, in NumPy; batchnorm_library.py is the same with the module."""

import numpy as np

DTYPE = np.float64
rng = np.random.default_rng(0)
inputs = (rng.standard_normal((12, 16, 6)) * np.arange(1, 7) + 2).astype(DTYPE)
labels = np.sin(inputs.sum(2, keepdims=True)).astype(DTYPE)
gamma, beta = np.ones(6, DTYPE), np.zeros(6, DTYPE)
w = (rng.standard_normal((6, 1)) / 3).astype(DTYPE)
running_mean, running_var = np.zeros(6, DTYPE), np.ones(6, DTYPE)
momentum, eps, lr = 0.1, 1e-5, 0.05
for x, y in zip(inputs, labels, strict=True):
    mean, var = x.mean(0), x.var(0)
    std = np.sqrt(var + DTYPE(eps))
    xhat = (x - mean) / std
    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var = (1 - momentum) * running_var + momentum * x.var(0, ddof=1)
    normed = gamma * xhat + beta
    act = np.maximum(normed, 0)
    out = act @ w
    error = out - y
    loss = (error**2).mean()
    d_out = 2 * error / error.size
    d_normed = d_out @ w.T * (normed > 0)
    d_gamma, d_beta, d_w = (d_normed * xhat).sum(0), d_normed.sum(0), act.T @ d_out
    gamma = gamma - DTYPE(lr) * d_gamma
    beta = beta - DTYPE(lr) * d_beta
    w = w - DTYPE(lr) * d_w
final = (inputs[0] - running_mean) / np.sqrt(running_var + eps) * gamma + beta
