"""Backward through a tensor made under no_grad: "why do PyTorch tensor operations give inconsistent results?"

The script fails at backward(), but the line to change is the one that cut the graph.
"""

# repro-audit:
#   - verdict: inconclusive
#     finds: [graph-cut]

import torch

x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
with torch.no_grad():
    y = x * 2
y.sum().backward()
print(x.grad)
