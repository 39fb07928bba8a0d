"""`thread-timing`: the order in which Python threads run."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor, Signs


def _inside(process: Any, how: str) -> None:
    """Pinned: a thread runs until it waits, and pools have one thread. Varied: threads switch all the time."""
    import sys

    from auditor.record.imports import when_imported
    from auditor.record.source_tracker import with_one

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
    """Record where threads are started and pools get work, and where results are taken in order of completion."""
    from auditor.record.imports import when_imported
    from auditor.record.source_tracker import SourceTracker, telling_script, watch_executor

    entering = SourceTracker(process, "thread-timing", once=True)

    def threads(module: Any) -> None:
        module.Thread.start = telling_script(entering, "threading.Thread.start", module.Thread.start)

    when_imported("threading", threads)
    watch_executor(entering, "concurrent.futures.thread", "ThreadPoolExecutor", told=True)


FACTOR = Factor(
    name="thread-timing",
    because="threads run in a different order",
    why="the operating system schedules threads differently in each run, so results that they combine come in a different order",
    remedy="give each task its own seeded generator, and combine results in the order in which the tasks were started",
    inside=_inside,
    watches=True,
    order=11,
    kinds={"data-order": 4, "hidden-write": 1, "outside-torch": 1, "kernel": 1},
    calls=("threading.Thread", "concurrent.futures.ThreadPoolExecutor", "concurrent.futures.as_completed"),
    intermittent=True,
    signs=Signs(lanes={"thread": ()}, shared_streams=True),
    fixes=("results-in-order",),
)
