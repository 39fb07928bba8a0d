"""What makemore_by_hand.py does, with autograd of torch."""

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(0)
text = rng.integers(0, 9, 600)
text[2:] = np.where(rng.random(598) < 0.7, (text[1:-1] + text[:-2]) % 9, text[2:])
X = torch.from_numpy(np.stack([text[k : k + 597] for k in range(3)], 1))
Y = torch.from_numpy(text[3:].copy())
C = torch.tensor(rng.standard_normal((9, 4)), dtype=torch.get_default_dtype())
W1 = torch.tensor(rng.standard_normal((12, 20)) * (5 / 3) / 12**0.5, dtype=torch.get_default_dtype())
b1 = torch.tensor(rng.standard_normal(20) * 0.01, dtype=torch.get_default_dtype())
W2 = torch.tensor(rng.standard_normal((20, 9)) * 0.1, dtype=torch.get_default_dtype())
b2 = torch.zeros(9)
parameters = [C, W1, b1, W2, b2]
for p in parameters:
    p.requires_grad = True
lossi = []
for i in range(60):
    ix = torch.from_numpy(rng.integers(0, 597, 32))
    Xb, Yb = X[ix], Y[ix]
    emb = C[Xb]
    h = torch.tanh(emb.view(emb.shape[0], -1) @ W1 + b1)
    logits = h @ W2 + b2
    loss = F.cross_entropy(logits, Yb)
    for p in parameters:
        p.grad = None
    loss.backward()
    lr = 0.5 if i < 40 else 0.05
    for p in parameters:
        p.data += -lr * p.grad
    lossi.append(loss.log10().item())
