"""Threads that the program starts: each enters the dispatch mode by itself, because a mode is seen by one thread only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from auditor.record.callsite import is_user_code
from auditor.record.imports import when_imported

if TYPE_CHECKING:
    from auditor.record.process import Process


def install(process: Process) -> None:
    """Watch threads started through `threading`."""
    when_imported("threading", lambda module: _install(process, module))


def _install(process: Process, threading: Any) -> None:
    start, bootstrap = threading.Thread.start, threading.Thread._bootstrap_inner
    numbers: dict[int, int] = {}

    def watched_start(self: Any, *args: Any, **kwargs: Any) -> Any:
        # numbered where they are started: the order in which they run is the operating system's
        process.threads += 1
        numbers[id(self)] = process.threads
        if is_user_code(sys._getframe(1).f_code.co_filename):
            target = getattr(self, "_target", None) or type(self).run
            process.lane().event("thread", number=process.threads, name=getattr(target, "__qualname__", type(self).__qualname__))
        return start(self, *args, **kwargs)

    def watched_bootstrap(self: Any) -> None:
        # Outside of `_bootstrap_inner`, which catches what the thread raises: no traceback shows this frame.
        process.local.thread = numbers.pop(id(self), 0)
        # DataLoader's pinning thread copies batches in the order in which they arrive; each is met where it is used.
        carries = getattr(getattr(self, "_target", None), "__name__", "") == "_pin_memory_loop"
        mode = process.enter_thread() if process.enter_thread and not carries else None
        try:
            bootstrap(self)
        finally:
            if mode is not None:
                mode.__exit__(None, None, None)

    watched_start.__name__, watched_start.__qualname__ = "start", "Thread.start"
    watched_bootstrap.__name__, watched_bootstrap.__qualname__ = "_bootstrap_inner", "Thread._bootstrap_inner"
    threading.Thread.start = watched_start
    threading.Thread._bootstrap_inner = watched_bootstrap
