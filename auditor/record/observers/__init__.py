"""What looks at ops in a rerun that asks for it: one file each, with an `OBSERVER` constant, loaded if the plan names it.

An observer computes with the tensors of the script. It does so on detached tensors, out of every mode's sight, and draws from no stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditor.record.core.protocol import Observer
    from auditor.record.lane import Lane
    from auditor.record.process import Process

#: `(process, lane, torch, settings)` -> the observer of a lane; None where there is nothing to observe in it.
MakeObserver = Callable[["Process", "Lane", Any, Any], "Observer | None"]
