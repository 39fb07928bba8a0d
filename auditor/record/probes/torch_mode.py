"""Puts the handler of `torch_ops` on each thread's stack of dispatch modes, and takes it off where the level says so.

Two answers that the mode gives are what keeps `torch.compile` as it is: it does not ask for Dynamo's help (the default imports
`torch._dynamo` at the first op), and it ignores what happens inside compiled code, which therefore runs compiled. Dynamo must not trace
anything of ours, so all our code objects are marked to be skipped.
"""

from __future__ import annotations

import _thread
import sys
import types
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.callsite import hide_us
from auditor.record.mode import Unnoticed
from auditor.record.probes import close_look, nonfinite, torch_ops, torch_rng

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.lane import Lane
    from auditor.record.process import Process


#: Whatever is called there is Python's own, which Dynamo is not to look at either: it counts the frames that it looks at.
_CALL_LIBRARY_ONLY = ("auditor.trace.writer", "auditor.record.callsite", "auditor.record.lane", "auditor.record.probes.contents")


def prepare(process: Process) -> None:
    """Import what only runs on a device put around a lane's handler: once we are armed, none of ours can be imported any more."""
    if process.settings.get("sketch"):
        from auditor.record.probes import sketches

        process.around.append(sketches.watch)
    shadowed = process.settings.get("shadow")
    if shadowed:
        from auditor.record.probes import shadow

        process.around.append(partial(shadow.watch, settings=shadowed))


def install_torch(process: Process, torch: Any) -> None:
    """Enter the mode on this thread and prepare it for others."""
    from torch.utils import _python_dispatch

    torch_ops.bind(torch)
    skip_in_dynamo(process, torch)

    class OpRecorder(Unnoticed, _python_dispatch.TorchDispatchMode):
        """The mode; its handler is built when the thread has its first op, and again after a fork."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            try:
                return ready(self).dispatch(self, func, types, args, kwargs)
            except BaseException as error:
                hide_us(error)
                raise

    def handler() -> Any:
        """The current thread's handler, made when it is first asked for; None in a thread that has not entered the mode."""
        lane = process.existing_lane()
        if lane is not None and lane.handler is not None:
            return lane.handler
        entered_here = _thread.get_ident() == process.main_thread or getattr(process.local, "mode", None) is not None
        return made() if process.level == "ops" and entered_here else None

    def made() -> Any:
        lane = process.lane()
        if lane.handler is None:
            around = _around(process, lane, torch)
            lane.handler = torch_ops.make_handler(
                lane, torch, lambda args, kwargs: torch_rng.state_of_stream(torch, args, kwargs), depth=1 + len(around)
            )
            for put in around:
                lane.handler = put()
        return lane.handler

    def ready(mode: Any) -> Any:
        """The current thread's handler, which from now on is the mode's."""
        handler = made()
        # A method, because torch refuses a plain function here; on the instance, because each thread has its own.
        mode.__torch_dispatch__ = types.MethodType(handler.dispatch, mode)
        return handler

    entered: list[weakref.ref[Any]] = []

    def enter() -> Any:
        mode = OpRecorder()
        entered.append(weakref.ref(mode))
        mode.__enter__()
        return mode

    def enter_thread() -> Any:
        return enter() if process.level == "ops" else None

    def set_level(level: str) -> bool:
        """Change the level on this thread, at a step boundary; False if a mode of the user's lies above ours."""
        top = _python_dispatch._get_current_dispatch_mode()
        if level == "ops":
            enter()
        elif isinstance(top, OpRecorder):
            top.__exit__(None, None, None)
        else:
            return False
        process.level = level
        process.lane().event("level", False, level=level)
        return True

    process.handler = handler
    process.set_level = set_level
    process.enter_thread = enter_thread
    process.lane().line({"k": "torch", "version": torch.__version__, "at": process.lane().number()})
    if process.level == "ops":
        enter()
    _watch_engine(process, torch)
    _after_fork(entered)


def _around(process: Process, lane: Lane, torch: Any) -> list[Callable[[], Any]]:
    """What the run puts around a lane's handler, the innermost first: each returns the handler to be used instead of the lane's."""
    around: list[Callable[[], Any]] = []
    window = close_look.window_of(process, lane)
    if process.settings.get("finite"):
        around.append(lambda: nonfinite.watch(lane, torch))
    elif window is not None:
        around.append(lambda: close_look.watch(process, lane, torch, window))
    around += [partial(put, lane, torch) for put in process.around]
    return around


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


def _after_fork(modes: list[Any]) -> None:
    """In a forked child the inherited mode stays on the stack but starts afresh, with a lane of its own."""
    import os

    def renew() -> None:
        for reference in modes:
            mode = reference()
            if mode is not None:
                mode.__dict__.pop("__torch_dispatch__", None)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


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
        if lane.handler is not None:
            lane.handler.begin_backward(lane.sites.site_of(frame))
        if torch._C._current_graph_task_id() < 0:  # not a backward pass within another
            process.backward(lane, frame, frame.f_locals.get("t_outputs"), frame.f_locals.get("kwargs") or {})

    variable = torch.autograd.Variable
    variable._execution_engine = Engine(variable._execution_engine, fetched)
