"""One file for each thing that is watched, with a `PROBE` constant; a folder is loaded only if the plan has a setting of its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from auditor.record.process import Process


class Probe(NamedTuple):
    """How a probe is installed. `order`: those with a lower one first, by name among equals."""

    install: Callable[[Process], None] | None = None
    """Called before the script; it may import nothing that the script might want to import first."""
    install_torch: Callable[[Process, Any], None] | None = None
    """Called with torch when the script has imported it."""
    order: int = 0
