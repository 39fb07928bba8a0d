"""A GRU and a GRUCell on the same sequence; an LSTM that got the weights of its cell; two equal layers of one network."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(5, 1, 3)

cell = nn.GRUCell(3, 4)
state = torch.zeros(1, 4)
for moment in x:
    state = cell(moment, state)
gru = nn.GRU(3, 4)  # finds: twin-modules
gru(x, torch.zeros(1, 1, 4))

lstm_cell = nn.LSTMCell(3, 4)
lstm = nn.LSTM(3, 4)  # ok: twin-modules
lstm.load_state_dict({f"{name}_l0": value for name, value in lstm_cell.state_dict().items()})
lstm_cell(x[0])
lstm(x)

network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))  # ok: twin-modules
network(x)
