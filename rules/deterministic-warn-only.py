"""The strict switch, and the one that only warns."""

import torch

torch.use_deterministic_algorithms(True)  # ok: deterministic-warn-only
torch.ones(1)
torch.use_deterministic_algorithms(True, warn_only=True)  # finds: deterministic-warn-only
torch.ones(1)
torch.use_deterministic_algorithms(False)  # ok: deterministic-warn-only
torch.ones(1)
