"""The same as attention_library.py by hand in NumPy, head by head."""

import numpy as np

rng = np.random.default_rng(0)
x = rng.standard_normal((2, 7, 32))
wq, wk, wv, wo = (rng.standard_normal((32, 32)) / 6 for _ in range(4))

q, k, v = x @ wq.T, x @ wk.T, x @ wv.T
scores = np.zeros((2, 4, 7, 7))
for head in range(4):
    part = slice(8 * head, 8 * head + 8)
    scores[:, head] = q[..., part] @ k[..., part].swapaxes(1, 2) / np.sqrt(8)
weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
weights = weights / weights.sum(axis=-1, keepdims=True)
mixed = np.concatenate([weights[:, head] @ v[..., 8 * head : 8 * head + 8] for head in range(4)], axis=-1)
output = mixed @ wo.T
print(output.sum())
