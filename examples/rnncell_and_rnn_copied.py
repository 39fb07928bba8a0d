"""The same data through RNNCell and RNN, with the weights of the cell copied into the RNN: the results agree."""

# repro-audit:
#   - verdict: no-divergence-seen

import torch
from torch import nn

torch.manual_seed(0)
data = torch.randn(3, 1, 2)

cell = nn.RNNCell(2, 5)
rnn = nn.RNN(2, 5)
rnn.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})

hidden = torch.zeros(1, 5)
for step, x in enumerate(data):
    hidden = cell(x, hidden)
    print("RNNCell", step, hidden.tolist())

outputs, last = rnn(data, torch.zeros(1, 1, 5))
for step, output in enumerate(outputs):
    print("RNN    ", step, output.tolist())
