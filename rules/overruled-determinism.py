"""Deterministic algorithms are enabled and disabled by a helper; a part that needs them off restores the switch."""

from contextlib import contextmanager

import torch


@contextmanager
def freely():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)  # ok: overruled-determinism
    yield
    torch.use_deterministic_algorithms(before)  # ok: overruled-determinism


def set_up_speed() -> None:
    torch.use_deterministic_algorithms(False)  # finds: overruled-determinism


torch.manual_seed(0)
torch.use_deterministic_algorithms(True)  # ok: overruled-determinism
model = torch.nn.Linear(4, 1)
with freely():
    model(torch.ones(2, 4)).sum().backward()
set_up_speed()
model(torch.ones(2, 4)).sum().backward()
