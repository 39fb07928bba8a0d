"""One block of self-attention as in a library: a module, scores by `matmul`, the heads as a dimension."""

import math

import numpy as np
import torch
from torch import nn


class SelfAttention(nn.Module):
    def __init__(self, hidden_size, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, hidden_size, bias=False)
        self.dense = nn.Linear(hidden_size, hidden_size, bias=False)
        self.dropout = nn.Dropout(0.5)

    def transpose_for_scores(self, x):
        return x.view(*x.shape[:-1], self.num_heads, self.head_size).permute(0, 2, 1, 3)

    def forward(self, hidden_states):
        query_layer = self.transpose_for_scores(self.query(hidden_states))
        key_layer = self.transpose_for_scores(self.key(hidden_states))
        value_layer = self.transpose_for_scores(self.value(hidden_states))
        attention_scores = torch.matmul(query_layer, key_layer.transpose(-1, -2)) / math.sqrt(self.head_size)
        attention_probs = nn.functional.softmax(attention_scores, dim=-1)
        attention_probs = self.dropout(attention_probs)
        context = torch.matmul(attention_probs, value_layer)
        output = self.dense(context.permute(0, 2, 1, 3).reshape(hidden_states.shape))
        return output, attention_probs


rng = np.random.default_rng(0)
hidden_states = torch.from_numpy(rng.standard_normal((2, 7, 32))).float()
block = SelfAttention(32, 4)
with torch.no_grad():
    for linear in (block.query, block.key, block.value, block.dense):
        weight = torch.from_numpy(rng.standard_normal((32, 32)) / 6).float()
        linear.weight.copy_(weight)
block.eval()
torch.manual_seed(0)
output, probs = block(hidden_states)
print(output.sum().item())
