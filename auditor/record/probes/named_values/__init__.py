"""The values that the script gives to names, for `match`: each assignment and in-place update of a numeric variable in the user's files.

Lines are watched (`watching`), what they assign is found from the source (`source`), what the names hold then is read and written down
(`collector`); a run can begin with values of another (`start`). Gradients are read behind each backward pass, parameters behind each step
of an optimizer, buffers of modules behind both if they have changed. Never changes the script's numbers, streams or graph, never calls
code of the user's, and keeps no tensor alive.

Attributes of several objects of one class are told apart by where these lie (`objects`, and `told_apart` of `auditor.trace.names`), long
lists of Python's own numbers are arrays, and a leaf whose name goes on to the next one is called by the list or dict that holds it. A leaf
that a loop makes one keeps the name that it had; parameters and buffers are called by the path under what holds their module.

**What it does not see**: names within comprehensions and lambdas; arguments, until the function assigns them anew; entries of lists and
dicts of more than 64, unless they are numbers when the list is assigned, or under a key that is an expression; what a property makes;
tensors of a subclass; arrays of a subclass of NumPy's; which object an attribute belongs to, of classes with more than 64 objects or
whose objects cannot have weak references; a leaf made in a comprehension, until a line writes it; buffers of booleans or, when they have
changed, of more than 4,096 elements; what `argparse` or a library keeps in objects of its own, such as the rate of an optimizer.
Zeroing a gradient is no value of it: the same program may do it in a line of the user's or within `zero_grad`.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from auditor.record import imports
from auditor.record.probes import Probe
from auditor.record.probes.named_values.collector import Collector
from auditor.record.probes.named_values.common import BUDGET, Common
from auditor.record.probes.named_values.source import ASSIGNED, Target
from auditor.record.probes.named_values.start import Start
from auditor.record.probes.named_values.watching import Watch, watching
from auditor.record.probes.named_values.writer import File

if TYPE_CHECKING:
    from auditor.record.process import Process
    from auditor.trace.names import Series

_TAKEN_OFF = "named values: the trace function was taken off (by a debugger, or near the recursion limit), and from there on none are seen"


def install(process: Process) -> None:
    """Watch this process from its first line on."""
    settings = process.settings.get("named_values") or {}
    common = Common(first_whole=bool(settings.get("first")), **({"budget": settings["budget"]} if settings.get("budget") else {}))
    shared = process.settings.get("share")
    collectors: list[Collector] = []
    start = common.start = Start(shared["from"], shared["pairs"]) if shared else None

    def collector() -> Collector:
        found: Collector | None = process.local.named
        if found is None:
            found = process.local.named = opened()
        return found

    def opened() -> Collector:
        def sink() -> Any:
            lane = process.lane()
            lane.at_end.append(made.close)
            return _LaneSink(lane)

        made = Collector(common, sink)
        collectors.append(made)
        return made

    def forked() -> None:
        for one in collectors:
            one.renew()

    def lost(what: str) -> None:
        process.lane().line({"k": "lost", "what": what, "count": 1})

    watch = Watch(common, collector)
    way = watching(watch, lost)

    def tell() -> None:
        for what, count in sorted(common.lost.items()):
            process.lane().line({"k": "lost", "what": f"named values: {what}", "count": count})
        if start is not None:
            for facts in [*start.told, *start.left()]:
                process.lane().event("shared-start", False, **facts)
        if not way.is_on():
            lost(_TAKEN_OFF)

    way.hide()
    imports.when_imported("threading", way.in_threads)
    imports.when_imported("torch", partial(_watch_torch, process, watch))
    # What is registered last runs first: these before `Process.close`, and behind all that the script registers.
    atexit.register(way.end)
    atexit.register(tell)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forked)
    way.begin()


class _LaneSink:
    """A lane's files."""

    def __init__(self, lane: Any) -> None:
        self._lane = lane
        self.records, self.values, self.make_room = lane.writer.named, lane.writer.kept, lane.writer.make_room

    def define(self, entry: dict[str, object]) -> int:
        number: int = self._lane.define("name", entry)
        return number


def _watch_torch(process: Process, watch: Watch, _torch: Any) -> None:
    """Be told of backward passes and of optimizers' steps."""
    watch.common.by_loops = False

    def backward(_lane: Any, frame: Any, _outputs: Any, options: Any) -> None:
        if options.get("accumulate_grad", True):
            _begun(watch, frame)

    process.at_backward.insert(0, backward)
    imports.when_imported("torch.optim.optimizer", partial(_watch_optimizers, watch))


def _begun(watch: Watch, frame: Any) -> None:
    """A backward pass begins."""
    common = watch.common
    loop, common.due_line = watch.training_loop(frame)
    if loop is None and not common.optimized:
        common.step = common.done()
    elif loop is not None and not common.optimized:
        common.training.add(loop)
    common.backwards += 1
    common.due = True


def _watch_optimizers(watch: Watch, module: Any) -> None:
    _watched_optimizers(watch, module)


def _watched_optimizers(watch: Watch, module: Any) -> list[Any]:
    """Be told of steps; returns what ends that."""
    common = watch.common

    def before(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if common.due:  # the backward pass and the step are in one line
            watch.collector().gradients()

    def after(optimizer: Any, _args: Any, _kwargs: Any) -> None:
        loop, line = watch.training_loop(sys._getframe(1))
        if not common.optimized:
            common.training.clear()  # steps are those of the optimizer from now on
        watch.collector().stepped(optimizer, line)
        common.optimized += 1
        if loop is None:
            common.step = common.optimized
        else:
            common.training.add(loop)

    for hook in (before, after):
        hook._torchdynamo_disable = True  # type: ignore[union-attr]  # as torch.compiler.disable does, for a compiled step
    return [module.register_optimizer_step_pre_hook(before), module.register_optimizer_step_post_hook(after)]


class _Memory:
    """What is appended, in memory."""

    def __init__(self) -> None:
        self.used = self.room = 0
        self.memory: Any = bytearray()


class NamedValues:
    """Named values of a callable that runs in this process, in memory."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.records: File = _Memory()
        self.values: File = _Memory()
        self.collector: Collector | None = None
        self._table: list[dict[str, object]] = []

    def note(self, name: str, value: Any) -> None:
        """Add a value that no line of the user's gives a name, or the parameters of a module; nothing if it holds no number."""
        target = Target(name, (), ASSIGNED)
        target.scope = "<call>"
        if self.collector is not None:
            self.collector.note(target, name, value)

    def define(self, entry: dict[str, object]) -> int:
        """Number of a new name."""
        self._table.append({"id": len(self._table) + 1, **entry})
        return len(self._table)

    def make_room(self, file: File, need: int) -> bool:
        """Have room for so many bytes."""
        file.memory += bytes(max(need, 2 * file.room) - file.room)
        file.room = len(file.memory)
        return True

    def series(self) -> list[Series]:
        """What was collected, as `named_values` gives it of a run."""
        import numpy as np

        from auditor.trace.names import series_of

        records, values = bytes(self.records.memory[: self.records.used]), bytes(self.values.memory)
        return series_of(self._table, records, np.frombuffer(values, np.uint8))


@contextmanager
def collected(budget: int = BUDGET) -> Iterator[NamedValues]:
    """Collect the named values of what is called inside, of this thread and, before Python 3.12, no other.

    What traced this thread before (a debugger, a measurement of coverage) is put off until the end.
    """
    values = NamedValues()
    common = Common(budget)
    collector = values.collector = Collector(common, lambda: values)
    watch = Watch(common, lambda: collector)
    way = watching(watch, values.lost.append)
    handles: list[Any] = []
    undo: Any = None
    torch = sys.modules.get("torch")
    if torch is not None:
        handles = _watched_optimizers(watch, sys.modules["torch.optim.optimizer"])
        undo = _watch_engine(torch, watch)
    way.begin()
    try:
        yield values
    finally:
        if not way.is_on():
            values.lost.append(_TAKEN_OFF)
        way.end()
        for handle in handles:
            handle.remove()
        if undo is not None:
            undo()
        collector.close()
        values.lost += [f"named values: {what}" for what in sorted(common.lost)]


def _watch_engine(torch: Any, watch: Watch) -> Any:
    """Be told of backward passes where no recorder is: torch fetches the engine from this attribute right before each."""
    from auditor.record.probes.torch_mode import Engine

    variable = torch.autograd.Variable
    inherited = variable.__dict__.get("_execution_engine")

    def fetched(frame: Any) -> None:
        if torch._C._current_graph_task_id() < 0 and (frame.f_locals.get("kwargs") or {}).get("accumulate_grad", True):
            _begun(watch, frame)

    variable._execution_engine = Engine(variable._execution_engine, fetched)

    def undo() -> None:
        variable._execution_engine = inherited

    return undo


#: Last: what it watches are the lines that run from now on.
PROBE = Probe(install, order=2)
