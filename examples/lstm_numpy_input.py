"""Is an LSTM regression model consistent? torch is seeded, but the input comes from NumPy's unseeded stream.

The float64 array is cast to float32.
"""

# repro-audit:
#   - verdict: diverged
#     kind: draw
#     cause: numpy-seed
#     finds: [unseeded-numpy-draw, narrowing-cast]

import numpy as np
import torch
from torch import nn

torch.manual_seed(42)
data = np.random.rand(10, 1, 5).astype(np.float64)  # <- diverges
x = torch.from_numpy(data).to(torch.float32)
lstm = nn.LSTM(5, 10)
head = nn.Linear(10, 1)

output, _ = lstm(x)
print(head(output).squeeze().tolist())
