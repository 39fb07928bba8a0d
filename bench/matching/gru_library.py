"""What gru_by_hand.py does, with torch's module and optimizer."""

import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(3)
signal = torch.tensor(np.cumsum(rng.standard_normal((60, 2, 3)), 0) / 8, dtype=torch.get_default_dtype())
wi, wh = (torch.from_numpy(rng.standard_normal((15, n)) / 2) for n in (3, 5))
readout = torch.tensor(rng.standard_normal((5, 3)), dtype=torch.get_default_dtype(), requires_grad=True)
gru = nn.GRU(3, 5)
with torch.no_grad():
    gru.weight_ih_l0.copy_(wi)
    gru.weight_hh_l0.copy_(wh)
    gru.bias_ih_l0.zero_()
    gru.bias_hh_l0.zero_()
optimizer = torch.optim.SGD([*gru.parameters(), readout], lr=0.05)
state = torch.zeros(1, 2, 5)
for start in range(0, 50, 5):
    x, y = signal[start : start + 5], signal[start + 1 : start + 6]
    hidden, state = gru(x, state.detach())
    prediction = hidden @ readout
    loss = nn.functional.mse_loss(prediction, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
