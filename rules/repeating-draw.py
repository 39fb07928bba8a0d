"""A seed inside the loop makes each step draw the same batch; the dropout mask is not affected."""

import numpy as np
import torch
from torch.nn import functional as F

torch.manual_seed(0)
data = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    np.random.seed(7)
    batch = torch.from_numpy(data[np.random.permutation(64)[:8]])  # finds: repeating-draw
    loss = F.dropout(model(batch), 0.1).square().mean()  # ok: repeating-draw
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
