"""Threads that the program starts: each enters the dispatch mode by itself, because a mode is seen by one thread only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from auditor.record.callsite import is_user_code
from auditor.record.imports import when_imported
from auditor.record.probes import Probe
from auditor.record.wrapping import bracket, telling

if TYPE_CHECKING:
    from auditor.record.process import Process


def install(process: Process) -> None:
    """Number the threads started through `threading`."""
    when_imported("threading", lambda module: _install(process, module))


def _install(process: Process, threading: Any) -> None:
    numbers: dict[int, int] = {}

    def starting(thread: Any) -> None:
        # numbered where they are started: the order in which they run is the operating system's
        process.threads += 1
        numbers[id(thread)] = process.threads
        if is_user_code(sys._getframe(2).f_code.co_filename):
            target = getattr(thread, "_target", None) or type(thread).run
            process.lane().event("thread", number=process.threads, name=getattr(target, "__qualname__", type(thread).__qualname__))

    process.thread_number = lambda: numbers.get(id(threading.current_thread()), 0)
    threading.Thread.start = telling(threading.Thread.start, starting)


def install_torch(process: Process, _torch: Any) -> None:
    """Let the threads that begin from now on enter the mode."""
    import threading  # torch has imported it

    def begun(thread: Any) -> None:
        # DataLoader's pinning thread copies batches in the order in which they arrive; each is met where it is used.
        carries = getattr(getattr(thread, "_target", None), "__name__", "") == "_pin_memory_loop"
        if process.modes and not carries:
            process.modes.enter()

    def ended(_thread: Any) -> None:
        if process.modes:
            process.modes.leave()

    bracket(threading.Thread._bootstrap_inner, begun, ended)  # type: ignore[attr-defined]  # private, and the same since Python 2.6


PROBE = Probe(install, install_torch)
