"""What adamw_by_hand.py does, with torch's optimizer."""

import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(0)
features = rng.standard_normal((120, 10))
labels = torch.tensor(features[:, :3].sum(1) + 0.3 * rng.standard_normal(120) > 0, dtype=torch.get_default_dtype())
features = torch.tensor(features, dtype=torch.get_default_dtype())
model = nn.Linear(10, 1)
with torch.no_grad():
    model.weight.copy_(torch.from_numpy(rng.standard_normal(10) / 3))
    model.bias.zero_()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8)
criterion = nn.BCEWithLogitsLoss()
for _epoch in range(8):
    for start in range(0, 120, 24):
        x, y = features[start : start + 24], labels[start : start + 24]
        logits = model(x).squeeze(1)
        loss = criterion(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = ((model(features).squeeze(1) > 0) == (labels > 0)).double().mean().item()
