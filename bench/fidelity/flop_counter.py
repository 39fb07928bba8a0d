"""modes: FlopCounterMode around a training step, in a module and in a compiled one."""

import torch
from torch.utils.flop_counter import FlopCounterMode

torch.manual_seed(0)
model = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
x = torch.randn(2, 5, 16)
with FlopCounterMode(display=False) as counter:
    model(x).sum().backward()
print(counter.get_total_flops(), sorted((name, sorted(map(str, ops.items()))) for name, ops in counter.get_flop_counts().items()))
counter = FlopCounterMode(display=False)
with counter, FlopCounterMode(display=False):
    model(x)
print(counter.get_total_flops())
