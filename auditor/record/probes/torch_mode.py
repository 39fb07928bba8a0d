"""Puts a mode on each thread's stack of dispatch modes, whose ops a core records, and takes it off where the level says so.

Two answers that the mode gives are what keeps `torch.compile` as it is: it does not ask for Dynamo's help (the default imports
`torch._dynamo` at the first op), and it ignores what happens inside compiled code, which therefore runs compiled. Dynamo must not trace
anything of ours, so all our code objects are marked to be skipped.
"""

from __future__ import annotations

import os
import sys
import types
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.callsite import hide_us
from auditor.record.core import python
from auditor.record.mode import Unnoticed
from auditor.record.probes import Probe, torch_rng

if TYPE_CHECKING:
    from auditor.record.core.protocol import Core, Level
    from auditor.record.process import Process

#: Whatever is called there is Python's own, which Dynamo is not to look at either: it counts the frames that it looks at.
_CALL_LIBRARY_ONLY = ("auditor.trace.writer", "auditor.record.callsite", "auditor.record.lane", "auditor.record.contents")


def install_torch(process: Process, torch: Any) -> None:
    """Enter the mode on this thread and prepare it for others."""
    python.bind(torch)
    skip_in_dynamo(process, torch)
    modes = process.modes = ThreadModes(process, torch)
    process.lane().line({"k": "torch", "version": torch.__version__, "at": process.lane().number()})
    modes.enter()
    _watch_engine(process, torch)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=modes.renew)


class ThreadModes:
    """See `process.Modes`."""

    def __init__(self, process: Process, torch: Any) -> None:
        from torch.utils import _python_dispatch

        ready = self._ready

        class OpRecorder(Unnoticed, _python_dispatch.TorchDispatchMode):
            """The mode; it gets the thread's core when the thread has its first op, and again after a fork."""

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                try:
                    return ready(self).op(self, func, types, args, kwargs)
                except BaseException as error:
                    hide_us(error)
                    raise

        self._process, self._torch = process, torch
        self._current = _python_dispatch._get_current_dispatch_mode
        self._make = OpRecorder
        self._entered: list[weakref.ref[Any]] = []

    def core(self) -> Core | None:
        """The core of the current thread, made when it is first asked for; None where its ops are not recorded."""
        level = self._process.local.level
        return self._made() if level is not None and level.sees_ops else None

    def enter(self) -> None:
        """Enter the mode on the current thread, which has begun; below it, in a run on a chosen device, those of `redirect`."""
        local = self._process.local
        if self._process.enter_redirection and not self._process.is_main_thread():
            local.redirection = self._process.enter_redirection()
        local.level = self._process.level
        if local.level.sees_ops:
            self._push()

    def leave(self) -> None:
        """Leave what the current thread has entered."""
        local = self._process.local
        for mode in (*local.redirection, local.mode)[::-1]:
            if mode is not None:
                mode.__exit__(None, None, None)
        local.mode, local.redirection, local.level = None, (), None

    def set_level(self, level: Level) -> None:
        """Change how closely the process is recorded; this thread follows at once, each other one at its next `follow`."""
        self._process.level = level
        self.follow()

    def follow(self) -> None:
        """Do on this thread what a change of the level asks for.

        A mode that cannot be left, because one of the user's lies above it, passes ops on until it can record again.
        """
        local, level = self._process.local, self._process.level
        if local.level is None or local.level is level:
            return
        if level.sees_ops and local.mode is None:
            self._push()
        elif level.sees_ops:
            local.mode.__dict__.pop("__torch_dispatch__", None)
        elif (mode := self._current()) is not None and mode is local.mode:
            mode.__exit__(None, None, None)
            local.mode = None
        elif local.mode is not None:
            local.mode.__torch_dispatch__ = types.MethodType(_pass_on, local.mode)
        local.level = level
        self._process.lane().event("level", False, level=level.value)

    def renew(self) -> None:
        """In a forked child the inherited mode stays on the stack but starts afresh, with a lane of its own."""
        for reference in self._entered:
            mode = reference()
            if mode is not None:
                mode.__dict__.pop("__torch_dispatch__", None)
        local, current = self._process.local, self._current()
        local.mode = current if isinstance(current, self._make) else None
        local.level = self._process.level

    def _push(self) -> None:
        mode = self._process.local.mode = self._make()
        self._entered.append(weakref.ref(mode))
        mode.__enter__()

    def _made(self) -> Core:
        process, lane = self._process, self._process.lane()
        if lane.core is None:
            made = (make(process, lane, self._torch, settings) for make, settings in process.observers)
            found = [observer for observer in made if observer is not None]
            lane.core = python.make_core(lane, self._torch, partial(torch_rng.state_of_stream, self._torch), found)
        return lane.core

    def _ready(self, mode: Any) -> Core:
        """The current thread's core, which from now on is the mode's."""
        core = self._made()
        # A method, because torch refuses a plain function here; on the instance, because each thread has its own.
        mode.__torch_dispatch__ = types.MethodType(core.op, mode)
        return core


def _pass_on(_mode: Any, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
    return func(*args, **kwargs) if kwargs else func(*args)


def skip_in_dynamo(process: Process, torch: Any) -> None:
    """Tell Dynamo to run our functions as they are: behind a graph break it would compile the next Python frame, whosoever it is."""
    frames = torch._C._dynamo.eval_frame
    try:
        skip, usual = frames._FrameAction.SKIP, frames._FrameAction.DEFAULT
        strategies = {whole: frames._FrameExecStrategy(skip, skip if whole else usual) for whole in (False, True)}
        mark = frames.set_code_exec_strategy
    except AttributeError as error:  # before 2.7 or so: there Dynamo skips a mode's handler by itself
        if interrupts(error):
            raise
        return
    for module in process.modules:
        strategy = strategies[module.__name__ in _CALL_LIBRARY_ONLY]
        for value in vars(module).values():
            for function in vars(value).values() if isinstance(value, type) else (value,):
                code = getattr(getattr(function, "fget", function), "__code__", None)  # of a property, its getter
                if isinstance(code, types.CodeType) and code.co_filename == module.__file__:
                    for one in _codes(code):
                        mark(one, strategy)


def _codes(code: types.CodeType) -> Any:
    """A function's code and that of all functions within it: closures that are made later share it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


class Engine:
    """Stands for the autograd engine as an attribute: torch fetches it right before each backward pass.

    Asking here leaves no frame of ours on the stack while the backward pass runs, as a wrapper would.
    """

    def __init__(self, engine: Any, fetched: Any) -> None:
        self.engine = engine
        self.fetched = fetched

    def __get__(self, instance: object, owner: type) -> Any:
        frame = sys._getframe(1)
        if frame.f_code.co_name == "_engine_run_backward":
            self.fetched(frame)
        return self.engine


def _watch_engine(process: Process, torch: Any) -> None:
    def fetched(frame: Any) -> None:
        lane = process.lane()
        if process.modes:
            process.modes.follow()
        if lane.core is not None:
            lane.core.begin_backward(lane.sites.site_of(frame))
        if torch._C._current_graph_task_id() < 0:  # not a backward pass within another
            for begun in process.at_backward:
                begun(lane, frame, frame.f_locals.get("t_outputs"), frame.f_locals.get("kwargs") or {})

    variable = torch.autograd.Variable
    variable._execution_engine = Engine(variable._execution_engine, fetched)


#: Later than the others: what they ask of torch is no op of the script.
PROBE = Probe(install_torch=install_torch, order=1)
