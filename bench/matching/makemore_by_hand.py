"""A character model with embeddings and one hidden layer, its gradients written out in NumPy; makemore_library.py is the same in torch."""

import numpy as np

DTYPE = np.float64


def scattered(index, rows):
    sums = np.zeros((9, rows.shape[-1]), rows.dtype)
    np.add.at(sums, index, rows)
    return sums


rng = np.random.default_rng(0)
text = rng.integers(0, 9, 600)
text[2:] = np.where(rng.random(598) < 0.7, (text[1:-1] + text[:-2]) % 9, text[2:])
contexts = np.stack([text[k : k + 597] for k in range(3)], 1)
wanted = text[3:]
C = rng.standard_normal((9, 4)).astype(DTYPE)
W1, b1 = (rng.standard_normal((12, 20)) * (5 / 3) / 12**0.5).astype(DTYPE), (rng.standard_normal(20) * 0.01).astype(DTYPE)
W2, b2 = (rng.standard_normal((20, 9)) * 0.1).astype(DTYPE), np.zeros(9, DTYPE)
lossi = []
for i in range(60):
    ix = rng.integers(0, 597, 32)
    xb, yb = contexts[ix], wanted[ix]
    emb = C[xb]
    embcat = emb.reshape(32, 12)
    h = np.tanh(embcat @ W1 + b1)
    logits = h @ W2 + b2
    counts = np.exp(logits - logits.max(1, keepdims=True))
    probs = counts / counts.sum(1, keepdims=True)
    loss = -np.log(probs[np.arange(32), yb]).mean()
    dlogits = (probs - np.eye(9, dtype=DTYPE)[yb]) / 32
    dh = dlogits @ W2.T
    dhpre = (1 - h**2) * dh
    dW2, db2, dW1, db1 = h.T @ dlogits, dlogits.sum(0), embcat.T @ dhpre, dhpre.sum(0)
    dC = scattered(xb, (dhpre @ W1.T).reshape(32, 3, 4))
    lr = 0.5 if i < 40 else 0.05
    C, W1, b1 = C - DTYPE(lr) * dC, W1 - DTYPE(lr) * dW1, b1 - DTYPE(lr) * db1
    W2, b2 = W2 - DTYPE(lr) * dW2, b2 - DTYPE(lr) * db2
    lossi.append(float(np.log10(loss)))
