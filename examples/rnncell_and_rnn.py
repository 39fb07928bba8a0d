"""The same data through RNNCell and RNN gives different results. Why?

Both are the same recurrence over the same input from the same zero state.
"""

# repro-audit:
#   - verdict: no-divergence-seen
#     finds: [twin-modules]

import torch
from torch import nn

torch.manual_seed(0)
data = torch.randn(3, 1, 2)

cell = nn.RNNCell(2, 5)
hidden = torch.zeros(1, 5)
for step, x in enumerate(data):
    hidden = cell(x, hidden)
    print("RNNCell", step, hidden.tolist())

rnn = nn.RNN(2, 5)
outputs, last = rnn(data, torch.zeros(1, 1, 5))
for step, output in enumerate(outputs):
    print("RNN    ", step, output.tolist())
