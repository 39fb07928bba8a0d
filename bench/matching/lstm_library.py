"""What lstm_by_hand.py does, with torch's module and autograd."""

import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(0)
data = rng.standard_normal((8, 7, 4, 3))
target = torch.tensor(np.sin(data.sum((1, 3)))[..., None], dtype=torch.get_default_dtype())
data = torch.tensor(data, dtype=torch.get_default_dtype())
lstm = nn.LSTM(3, 5)
with torch.no_grad():
    for weight in (lstm.weight_ih_l0, lstm.weight_hh_l0):
        weight.copy_(torch.from_numpy(rng.standard_normal(tuple(weight.shape)) / 2))
    for bias in (lstm.bias_ih_l0, lstm.bias_hh_l0):
        bias.copy_(torch.from_numpy(rng.standard_normal(20) / 4))
w_out = torch.tensor(rng.standard_normal((5, 1)), dtype=torch.get_default_dtype(), requires_grad=True)
state = None
for k in range(len(data)):
    x, y = data[k], target[k]
    output, state = lstm(x, None)
    last = output[-1].detach()
    out = last @ w_out
    error = out - y
    loss = (error**2).mean()
    loss.backward()
    with torch.no_grad():
        w_out -= 0.1 * w_out.grad
    w_out.grad.zero_()
