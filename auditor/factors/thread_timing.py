"""`thread-timing`: which of several Python threads comes first."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor


def _inside(_process: Any, how: str) -> None:
    """Pinned: a thread keeps running until it waits, and pools have one thread. Varied: threads take turns all the time."""
    import sys

    from auditor.record.imports import when_imported

    sys.setswitchinterval(100.0 if how == "pin" else 1e-6)
    if how != "pin":
        return

    def install(module: Any) -> None:
        original = module.ThreadPoolExecutor.__init__

        def alone(self: Any, max_workers: int | None = None, *args: Any, **kwargs: Any) -> None:
            original(self, 1, *args, **kwargs)

        module.ThreadPoolExecutor.__init__ = alone

    when_imported("concurrent.futures.thread", install)


FACTOR = Factor(
    name="thread-timing",
    why="Python's threads take turns as the system lets them, so what they add to one thing comes in another order in each run",
    remedy="collect the threads' results in the order in which the threads were started, and add them up there",
    inside=_inside,
)
