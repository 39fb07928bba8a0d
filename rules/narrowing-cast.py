"""NumPy's float64 rounded on its way into torch, rounded in NumPy, and kept."""

import numpy as np
import torch

rng = np.random.default_rng(0)
features = rng.normal(size=(8, 3))
kept = torch.from_numpy(features)  # ok: narrowing-cast
rounded = torch.from_numpy(features).float()  # finds: narrowing-cast
constructed = torch.tensor(features, dtype=torch.float32)  # finds: narrowing-cast
filled = torch.empty(8, 3)
filled[:] = kept  # finds: narrowing-cast
for row in range(3):
    stacked = torch.stack([kept[row], kept[row + 1]])
    half = stacked.to(torch.bfloat16)  # finds: narrowing-cast
already = torch.from_numpy(features.astype(np.float32))  # ok: narrowing-cast
written = torch.tensor([0.5, 0.25])  # ok: narrowing-cast
computed = (kept - kept.mean(0)).float()  # ok: narrowing-cast
deliberate = rounded.half()  # ok: narrowing-cast
pixels = torch.from_numpy(np.arange(8.0)).float()  # ok: narrowing-cast
number = kept[0, 0].float()  # ok: narrowing-cast
