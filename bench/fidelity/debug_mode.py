"""modes: DebugMode, which writes down functions, ops and their hashes."""

import torch
from torch.utils._debug_mode import DebugMode

torch.manual_seed(0)
model = torch.nn.Linear(3, 2)
with DebugMode(record_torchfunction=True) as log, DebugMode.log_tensor_hashes():
    loss = model(torch.ones(4, 3)).square().sum()
    loss.backward()
print(log.debug_string())
