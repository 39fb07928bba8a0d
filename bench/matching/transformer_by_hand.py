"""The forward pass of one block of a causal transformer and its loss, in NumPy; transformer_library.py is the same with modules."""

import math

import numpy as np

DTYPE = np.float64


def layer_norm(x, gain, shift):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * gain + shift


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))).astype(x.dtype)


rng = np.random.default_rng(0)
tokens = rng.integers(0, 11, (3, 2, 6))
embedding, head = (rng.standard_normal((11, 16)).astype(DTYPE) for _ in range(2))
w_qkv, w_proj = ((rng.standard_normal(shape) / 4).astype(DTYPE) for shape in ((48, 16), (16, 16)))
w_up, w_down = ((rng.standard_normal(shape) / 4).astype(DTYPE) for shape in ((32, 16), (16, 32)))
gain1, gain2 = ((1 + rng.standard_normal(16) / 8).astype(DTYPE) for _ in range(2))
shift1, shift2 = ((rng.standard_normal(16) / 8).astype(DTYPE) for _ in range(2))
mask = np.triu(np.ones((6, 6), bool), 1)
for batch in tokens:
    x = embedding[batch]
    normed = layer_norm(x, gain1, shift1)
    q, k, v = (one.reshape(2, 6, 4, 4).transpose(0, 2, 1, 3) for one in np.split(normed @ w_qkv.T, 3, -1))
    scores = np.where(mask, -1e9, q @ k.transpose(0, 1, 3, 2) / math.sqrt(4)).astype(DTYPE)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(2, 6, 16)
    attended = x + mixed @ w_proj.T
    inner = gelu(layer_norm(attended, gain2, shift2) @ w_up.T)
    result = attended + inner @ w_down.T
    logits = result @ head.T
    shifted = logits - logits.max(-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log_probs[:, :-1], batch[:, 1:, None], 2)
    loss = float(nll.mean())
