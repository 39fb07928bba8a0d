"""Logistic regression by AdamW written out in NumPy; adamw_library.py is the same in torch."""

import numpy as np

DTYPE = np.float64
rng = np.random.default_rng(0)
features = rng.standard_normal((120, 10)).astype(DTYPE)
labels = (features[:, :3].sum(1) + 0.3 * rng.standard_normal(120) > 0).astype(DTYPE)
w, b = (rng.standard_normal(10) / 3).astype(DTYPE), np.zeros(1, DTYPE)
state = {"w": [np.zeros(10, DTYPE), np.zeros(10, DTYPE)], "b": [np.zeros(1, DTYPE), np.zeros(1, DTYPE)]}
lr, decay, beta1, beta2, eps = 0.02, 0.05, 0.9, 0.999, 1e-8
t = 0


def adamw(p, g, name):
    m, v = state[name]
    p = p * DTYPE(1 - lr * decay)
    m = DTYPE(beta1) * m + DTYPE(1 - beta1) * g
    v = DTYPE(beta2) * v + DTYPE(1 - beta2) * g * g
    state[name] = [m, v]
    m_hat, v_hat = m / DTYPE(1 - beta1**t), v / DTYPE(1 - beta2**t)
    return p - DTYPE(lr) * m_hat / (np.sqrt(v_hat) + DTYPE(eps))


for epoch in range(8):
    for start in range(0, 120, 24):
        x, y = features[start : start + 24], labels[start : start + 24]
        logits = x @ w + b
        p = 1 / (1 + np.exp(-logits))
        loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
        g = (p - y) / len(y)
        grad_w, grad_b = x.T @ g, g.sum(keepdims=True)
        t += 1
        w = adamw(w, grad_w, "w")
        b = adamw(b, grad_b, "b")
    accuracy = ((features @ w + b > 0) == labels).mean()
