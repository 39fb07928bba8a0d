"""A GRU written out with plain tensors, trained by SGD over chunks of a long sequence; gru_library.py is the same with the module."""

import numpy as np
import torch

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(3)
signal = torch.tensor(np.cumsum(rng.standard_normal((60, 2, 3)), 0) / 8, dtype=torch.get_default_dtype())
weight_ih, weight_hh = (torch.tensor(rng.standard_normal((15, n)) / 2, dtype=torch.get_default_dtype(), requires_grad=True) for n in (3, 5))
bias_ih, bias_hh = torch.zeros(15, requires_grad=True), torch.zeros(15, requires_grad=True)
readout = torch.tensor(rng.standard_normal((5, 3)), dtype=torch.get_default_dtype(), requires_grad=True)
h = torch.zeros(2, 5)
for start in range(0, 50, 5):
    x, y = signal[start : start + 5], signal[start + 1 : start + 6]
    h = h.detach()
    states = []
    for x_t in x:
        ri, zi, ni = (x_t @ weight_ih.T + bias_ih).chunk(3, 1)
        rh, zh, nh = (h @ weight_hh.T + bias_hh).chunk(3, 1)
        r, z = torch.sigmoid(ri + rh), torch.sigmoid(zi + zh)
        n = torch.tanh(ni + r * nh)
        h = (1 - z) * n + z * h
        states.append(h)
    hidden = torch.stack(states)
    prediction = hidden @ readout
    loss = ((prediction - y) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        for p in (weight_ih, weight_hh, bias_ih, bias_hh, readout):
            p.data -= 0.05 * p.grad
            p.grad.zero_()
