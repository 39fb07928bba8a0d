"""Tasks of pools of threads and processes: which worker gets which of them is chance, so each is told by who asked for it, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record.imports import when_imported
from auditor.record.probes import Probe
from auditor.record.wrapping import stand_in, telling

if TYPE_CHECKING:
    from auditor.record.process import Process


def install(process: Process) -> None:
    """Watch the pools of the standard library."""
    when_imported("concurrent.futures.thread", lambda module: _watch_threads(process, module))
    when_imported("concurrent.futures.process", lambda module: _watch_queue(process, module, "_process_worker", _of_executor))
    when_imported("multiprocessing.pool", lambda module: _watch_queue(process, module, "worker", _of_pool))


def _begin(process: Process, task: str) -> None:
    process.local.task = task
    process.lane().event("task", False, name=task)


def _watch_threads(process: Process, thread: Any) -> None:
    item = thread._WorkItem
    if hasattr(item, "__slots__"):  # it would have no room for a name
        return
    asked: dict[str, int] = {}

    def made(work: Any, *_args: Any, **_kwargs: Any) -> None:
        by = process.local.task or f"thread {process.thread_number()}"
        asked[by] = asked.get(by, 0) + 1
        work._repro_audit_task = f"{by}, {asked[by]}"

    def begun(work: Any, *_args: Any, **_kwargs: Any) -> None:
        task = getattr(work, "_repro_audit_task", None)
        if task is not None:
            _begin(process, task)

    item.__init__ = telling(item.__init__, made)
    item.run = telling(item.run, begun)


class _Watched:
    """A queue of tasks that says which one was taken."""

    def __init__(self, queue: Any, taken: Any) -> None:
        self._repro_audit_queue = queue
        self._repro_audit_taken = taken

    def get(self, *args: Any, **kwargs: Any) -> Any:
        task = self._repro_audit_queue.get(*args, **kwargs)
        self._repro_audit_taken(task)
        return task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repro_audit_queue, name)


def _of_executor(task: Any) -> str | None:
    number = getattr(task, "work_id", None)
    return None if number is None else f"call {number}"


def _of_pool(task: Any) -> str | None:
    return f"job {task[0]}, {task[1]}" if type(task) is tuple and len(task) > 1 else None


def _watch_queue(process: Process, module: Any, name: str, key_of: Any) -> None:
    worker = getattr(module, name)

    def taken(task: Any) -> None:
        key = key_of(task)
        if key is not None:
            _begin(process, key)

    def watched(queue: Any, *args: Any, **kwargs: Any) -> Any:
        return worker(_Watched(queue, taken), *args, **kwargs)

    setattr(module, name, stand_in(worker, watched))


PROBE = Probe(install)
