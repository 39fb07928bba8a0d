"""`thread-timing`: which of several Python threads comes first."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor, Signs


def _inside(process: Any, how: str) -> None:
    """Pinned: a thread keeps running until it waits, and pools have one thread. Varied: threads take turns all the time."""
    import sys

    from auditor.record.entering import with_one
    from auditor.record.imports import when_imported

    _watch(process)
    if how != "watch":
        sys.setswitchinterval(100.0 if how == "pin" else 1e-6)
    if how != "pin":
        return

    def install(module: Any) -> None:
        pool = module.ThreadPoolExecutor
        pool.__init__ = with_one(pool.__init__)

    when_imported("concurrent.futures.thread", install)


def _watch(process: Any) -> None:
    """Tell where threads are started and pools of them given work, and where their results are taken as they come."""
    from auditor.record.entering import Entering, telling_script, watch_executor
    from auditor.record.imports import when_imported

    entering = Entering(process, "thread-timing", once=True)

    def threads(module: Any) -> None:
        module.Thread.start = telling_script(entering, "threading.Thread.start", module.Thread.start)

    when_imported("threading", threads)
    watch_executor(entering, "concurrent.futures.thread", "ThreadPoolExecutor", told=True)


FACTOR = Factor(
    name="thread-timing",
    because="threads run in a different order",
    why="the operating system schedules threads differently in each run, so what they add to one thing comes in a different order",
    remedy="give each task a seeded generator of its own, and add up the results in the order in which the tasks were started",
    inside=_inside,
    watches=True,
    order=11,
    kinds={"data-order": 4, "hidden-write": 1, "outside-torch": 1, "kernel": 1},
    calls=("threading.Thread", "concurrent.futures.ThreadPoolExecutor", "concurrent.futures.as_completed"),
    intermittent=True,
    signs=Signs(lanes={"thread": ()}, shared_streams=True),
    fixes=("results-in-order",),
)
