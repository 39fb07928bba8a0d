"""LSTMs without the variable, with cuDNN off, and with the variable; and a cell, which cuDNN does not run."""

import os

import torch
from torch import nn

torch.manual_seed(0)
sequence = torch.randn(3, 1, 4)
lstm, cell = nn.LSTM(4, 4), nn.LSTMCell(4, 4)
for _ in range(2):
    lstm(sequence)[0].sum().backward()  # finds: varying-rnn-on-cuda
hidden, _ = cell(sequence[0])  # ok: varying-rnn-on-cuda
with torch.backends.cudnn.flags(enabled=False):
    output, _ = lstm(sequence)  # ok: varying-rnn-on-cuda
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:2"
output, _ = lstm(sequence)  # ok: varying-rnn-on-cuda
