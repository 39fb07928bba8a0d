"""In-place `add_` against `add`: "why do PyTorch tensor operations give inconsistent results?"

Which tensors does an in-place operation change besides the one it is called on: the base of a view,
the NumPy array behind a tensor, the activation that backward still needs?
"""

# repro-audit:
#   - verdict: no-divergence-seen
#     finds: [shared-memory-write, in-place-needed-for-backward]

import numpy as np
import torch

x = torch.tensor([1.0, 2.0, 3.0])
y = torch.tensor([10.0, 20.0, 30.0])
print("add: ", x.add(y), "x is still", x)
print("add_:", x.add_(y), "x is now", x)

table = torch.zeros(2, 3)
row = table[0]
row.add_(1)
print("table after row.add_(1):", table.tolist())

array = np.zeros(3, dtype=np.float32)
shared = torch.from_numpy(array)
shared.add_(1)
print("array after shared.add_(1):", array)

weight = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
activation = weight.exp()
activation.add_(1)
try:
    activation.sum().backward()
except RuntimeError as error:
    print("backward:", error)
