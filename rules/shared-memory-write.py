"""A tensor that is scaled in place together with its array, and tensors with memory of their own."""

import numpy as np
import torch

array = np.arange(6, dtype=np.float32)
for _ in range(2):
    pixels = torch.from_numpy(array)
    pixels.div_(255)  # finds: shared-memory-write
copied = torch.from_numpy(array).clone()
copied.div_(255)  # ok: shared-memory-write
own = torch.tensor(array)
own -= own.mean()  # ok: shared-memory-write
fresh = torch.from_numpy(array * 2)
fresh.add_(1)  # ok: shared-memory-write
array = torch.from_numpy(array)
array.add_(1)  # ok: shared-memory-write
