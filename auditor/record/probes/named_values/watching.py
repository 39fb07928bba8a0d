"""Tells a collector which lines of the user's files were run: by `sys.monitoring` from Python 3.12 on, by `sys.settrace` before.

Never raises into the script but what the script was sent meanwhile (KeyboardInterrupt). Before 3.12 the interpreter has a frame's
variables only as a dict that it makes anew at each line, so an object that a line gave up lives on to the end of that line; and it
writes that dict back, so that a variable of a closure which another thread sets in the same microseconds can lose that value.
A script that traces itself has its way: ours steps aside, and that is said.
"""

from __future__ import annotations

import ctypes
import opcode
import sys
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.callsite import hide_us, is_user_code
from auditor.record.imports import failed
from auditor.record.probes.named_values.source import TOUCHED, Plan, Region, Scope, scopes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.probes.named_values.collector import Collector
    from auditor.record.probes.named_values.common import Common

_SILENT = ("<lambda>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
_VERSION: tuple[int, ...] = sys.version_info[:2]
_NOT_SEEN = "named values: the script set a trace function of its own, and from there on none are seen in this thread"


class Watch:
    """Which code is the user's, and what its lines assign; `collector()` is that of the current thread."""

    def __init__(self, common: Common, collector: Callable[[], Collector]) -> None:
        self.common = common
        self.collector = collector
        self._plans: dict[int, Plan | None] = {}
        self._kept: list[CodeType] = []
        self._scopes: dict[str, dict[tuple[str, int], Scope]] = {}
        common.plan_of, common.variables_of = self.plan, _variables

    def plan(self, code: CodeType) -> Plan | None:
        """What the lines of a code object assign; None if it is not the user's or assigns nothing."""
        key = id(code)
        try:
            return self._plans[key]
        except KeyError:
            pass
        found = None
        file = code.co_filename
        if code.co_name not in _SILENT and is_user_code(file):
            if file not in self._scopes:
                self._scopes[file] = scopes_of(file)
            # the first line of a module's code is 1 or, before 3.11, that of its first statement; of a class body's or function's it is
            # that of its first decorator
            line = 1 if code.co_name == "<module>" else code.co_firstlineno
            scope = self._scopes[file].get((code.co_name, line))
            found = Plan(code, scope) if scope is not None else None
        self._plans[key] = found
        self._kept.append(code)
        return found

    def ran(self, plan: Plan, region: Region, before: Any, frame: FrameType, after: int) -> None:
        """A piece of bytecode was run to its end, and the frame goes on at offset `after`."""
        try:
            collector = self.collector()
            variables = _variables(plan, frame)
            common = self.common
            if region.targets:
                if region.simple:
                    collector.touch_all(region.targets, frame, variables)
                elif before is None:
                    for target in region.targets:
                        collector.touch(target, frame, variables)
                else:
                    for target, was in zip(region.targets, before, strict=True):
                        if was is _SURE or collector.fingerprint(target, frame, variables) != was:
                            collector.touch(target, frame, variables)
            if after == region.end:
                for loop in region.turns:
                    common.entered(loop)
                for target in region.for_targets:
                    collector.touch(target, frame, variables)
            if common.due:
                collector.gradients()
        except Exception as error:  # what we fail to note must not end the user's program
            if interrupts(error):
                raise
            failed(self.ran, error)

    def begins(self, plan: Plan, region: Region, frame: FrameType) -> Any:
        """A piece of bytecode is about to run: what must be known of its targets before; None if nothing."""
        try:
            for loop in region.begins:
                self.common.entered(loop)
            if not region.uncertain and not any(target.how == TOUCHED for target in region.targets):
                return None
            variables = _variables(plan, frame)
            collector = self.collector()
            return [
                collector.fingerprint(target, frame, variables) if region.uncertain or target.how == TOUCHED else _SURE
                for target in region.targets
            ]
        except Exception as error:  # likewise
            if interrupts(error):
                raise
            failed(self.begins, error)
            return None

    def training_loop(self, frame: FrameType | None) -> tuple[Any, int]:
        """The innermost loop of the user's around a frame, and the line of its innermost frame of the user's; None, 0 if there is none."""
        line = 0
        while frame is not None:
            if is_user_code(frame.f_code.co_filename):
                line = line or frame.f_lineno
                plan = self.plan(frame.f_code)
                loop = plan.scope.loop_at(frame.f_lineno) if plan is not None else None
                if loop is not None:
                    return loop, line
            frame = frame.f_back
        return None, line


_SURE: Any = object()


def _variables(plan: Plan, frame: FrameType) -> Any:
    """The variables of a frame, to be asked for one by one."""
    return _Variables(frame) if plan.is_function and _VERSION >= (3, 12) else frame.f_locals


class _Variables:
    """The local variables of a function's frame, asked for one by one: before 3.13 the dict of all of them would keep them alive."""

    __slots__ = ("_frame", "_get")

    def __init__(self, frame: FrameType) -> None:
        self._frame = frame
        self._get: Any = frame.f_locals if _VERSION >= (3, 13) else None

    def __getitem__(self, name: str) -> Any:
        found = self.get(name, _SURE)
        if found is _SURE:
            raise KeyError(name)
        return found

    def get(self, name: str, default: Any) -> Any:
        if self._get is not None:
            try:
                return self._get[name]
            except KeyError:
                return default
        read = ctypes.pythonapi.PyFrame_GetVarString
        read.restype, read.argtypes = ctypes.py_object, (ctypes.py_object, ctypes.c_char_p)
        try:
            return read(self._frame, name.encode())
        except NameError as error:
            if interrupts(error):
                raise
            return default


class Tracing:
    """Before Python 3.12: a trace function, in each thread."""

    def __init__(self, watch: Watch, lost: Callable[[str], None]) -> None:
        self._watch = watch
        self._lost = lost
        self._called = _tracer(watch)
        self._originals: tuple[Any, Any] = (sys.settrace, sys.gettrace)
        self._before: Any = None

    def begin(self) -> None:
        """Watch what this thread calls from now on."""
        self._before = self._originals[1]()
        self._originals[0](self._called)

    def end(self) -> None:
        """Give back what traced this thread before."""
        self._originals[0](self._before)

    def is_on(self) -> bool:
        """Whether nobody has replaced it in this thread."""
        return self._originals[1]() is self._called

    def hide(self) -> None:
        """Let the script find no trace function, as it would without us, and let it set its own."""
        ours, (settrace, gettrace), lost = self._called, self._originals, self._lost

        def found() -> Any:
            function = gettrace()
            return None if function is ours else function

        def asked(function: Any, /) -> None:
            if function is None and gettrace() is ours:
                return  # nothing of the script's is to be taken off
            if function is not None:
                if gettrace() is ours:
                    lost(_NOT_SEEN)
                if sys.settrace is asked:  # what the script traces from now on is to find nothing of ours
                    sys.gettrace, sys.settrace = gettrace, settrace
            settrace(function)

        sys.gettrace, sys.settrace = found, asked

    def in_threads(self, threading: Any) -> None:
        """Watch the threads that begin from now on."""
        settrace, called, of_threads = self._originals[0], self._called, {"function": None}

        def begun(frame: Any, event: str, arg: Any) -> Any:
            settrace(called)
            return called(frame, event, arg)

        def asked(function: Any) -> None:
            of_threads["function"] = function
            threading._trace_hook = begun if function is None else function

        threading._trace_hook = begun
        threading.settrace = asked
        if hasattr(threading, "gettrace"):
            threading.gettrace = lambda: of_threads["function"]


def _tracer(watch: Watch) -> Any:
    plans, learn = watch._plans, watch.plan
    ran, begins, common = watch.ran, watch.begins, watch.common

    def called(frame: FrameType, event: str, _arg: Any) -> Any:
        try:
            plan = plans[id(frame.f_code)]
        except KeyError as error:
            if interrupts(error):
                raise
            try:
                plan = learn(frame.f_code)
            except Exception as error:  # a file that cannot be read or parsed: its values are not seen
                if interrupts(error):
                    raise
                failed(learn, error)
                return None
        if plan is None or event != "call":
            return None
        if plan.is_generator and frame.f_trace is not None:
            return frame.f_trace  # it goes on
        return of_frame(plan)

    def of_frame(plan: Plan) -> Any:
        regions, find, is_generator = plan.regions, plan.region, plan.is_generator
        pending: Region | None = None
        before: Any = None
        held, is_function = False, plan.is_function
        touch_all = watch.collector().touch_all

        def traced(frame: FrameType, event: str, arg: Any) -> None:
            nonlocal pending, before, held
            try:
                if event == "line":
                    at = frame.f_lasti
                    if pending is not None:
                        if pending.simple and not common.due:
                            touch_all(pending.targets, frame, frame.f_locals)
                        else:
                            ran(plan, pending, before, frame, at)
                    elif common.due:
                        ran(plan, _NO_REGION, None, frame, at)
                    elif held or (is_function and common.callers_read):
                        _ = frame.f_locals  # a dict that was asked for keeps what is no longer there until it is asked for again
                    try:
                        pending = regions[at]
                    except KeyError:
                        pending = find(at)
                    if pending is not None:
                        held = is_function
                        before = begins(plan, pending, frame) if pending.asks else None
                elif event == "exception":
                    # what a generator that is waited for returns comes as one, too
                    if not (is_generator and arg[0] is StopIteration):
                        pending = None
                elif event == "return" and pending is not None and not (is_generator and _is_yield(plan.code, frame.f_lasti)):
                    ran(plan, pending, before, frame, -1)
                    pending = None
            except Exception as error:  # what we fail to note must not end the user's program
                if interrupts(error):
                    raise
                failed(called, error)
            except BaseException as error:
                hide_us(error)
                raise

        return traced

    return called


_NO_REGION = Region((), (), False, (), (), -1, True, False)
_YIELDS = ("YIELD_VALUE", "YIELD_FROM", "SEND")


def _is_yield(code: CodeType, at: int) -> bool:
    # before 3.11 a frame that waits for another stands at the instruction before YIELD_FROM, to run that again
    return any(opcode.opname[one] in _YIELDS for one in code.co_code[at : at + (3 if _VERSION < (3, 11) else 1) : 2])


class Monitoring:
    """From Python 3.12 on: `sys.monitoring`, which tells of the user's code objects alone."""

    def __init__(self, watch: Watch, lost: Callable[[str], None]) -> None:
        self._watch = watch
        self._lost = lost
        self._tool = -1
        self._pending: dict[int, tuple[Plan, Region, Any]] = {}
        self._codes: list[CodeType] = []
        self._turns: dict[int, set[int]] = {}

    def begin(self) -> None:
        """Watch what any thread calls from now on."""
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]  # from 3.12 on
        events = monitoring.events
        self._tool = next((tool for tool in (4, 3) if monitoring.get_tool(tool) is None), -1)
        if self._tool < 0:
            self._lost("named values: other tools have taken all places of sys.monitoring")
            return
        monitoring.use_tool_id(self._tool, "repro-audit")
        pending, watch, tool = self._pending, self._watch, self._tool
        local = events.LINE | events.PY_RETURN

        def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                try:
                    return function(sys._getframe(1), *args)
                except Exception as error:  # what we fail to note must not end the user's program
                    if interrupts(error):
                        raise
                    failed(function, error)
                except BaseException as error:
                    hide_us(error)
                    raise
                return None

            return call

        def started(_frame: FrameType, code: CodeType, _offset: int) -> Any:
            plan = watch.plan(code)
            if plan is not None and not monitoring.get_local_events(tool, code):
                # a jump back within a line is no new line here, as it is for a trace function
                turns = self._turns[id(code)] = plan.turns()
                monitoring.set_local_events(tool, code, local | (events.JUMP if turns else 0))
                self._codes.append(code)
            return monitoring.DISABLE

        def line(frame: FrameType, code: CodeType, _number: int) -> None:
            plan = watch.plan(code)
            if plan is not None:
                arrived(frame, plan, frame.f_lasti)

        def jumped(frame: FrameType, code: CodeType, offset: int, destination: int) -> None:
            plan = watch.plan(code)
            if plan is not None and offset in self._turns.get(id(code), ()):
                arrived(frame, plan, destination)

        def arrived(frame: FrameType, plan: Plan, at: int) -> None:
            key = id(frame)
            found = pending.pop(key, None)
            if found is not None:
                watch.ran(*found, frame, at)
            elif watch.common.due:
                watch.ran(plan, _NO_REGION, None, frame, at)
            region = plan.regions[at] if at in plan.regions else plan.region(at)
            if region is not None:
                pending[key] = plan, region, watch.begins(plan, region, frame) if region.asks else None

        def returned(frame: FrameType, _code: CodeType, _offset: int, _value: Any) -> None:
            found = pending.pop(id(frame), None)
            if found is not None:
                watch.ran(*found, frame, -1)

        def raised(frame: FrameType, code: CodeType, offset: int, error: BaseException) -> None:
            # what is waited for returns by a StopIteration, which is told as raised where it is not of a generator of Python's
            if not (type(error) is StopIteration and _is_yield(code, offset)):
                pending.pop(id(frame), None)

        def left(frame: FrameType, _code: CodeType, _offset: int, _error: BaseException) -> None:
            pending.pop(id(frame), None)

        monitoring.register_callback(tool, events.PY_START, guarded(started))
        monitoring.register_callback(tool, events.LINE, guarded(line))
        monitoring.register_callback(tool, events.JUMP, guarded(jumped))
        monitoring.register_callback(tool, events.PY_RETURN, guarded(returned))
        monitoring.register_callback(tool, events.RAISE, guarded(raised))
        monitoring.register_callback(tool, events.PY_UNWIND, guarded(left))
        monitoring.set_events(tool, events.PY_START | events.RAISE | events.PY_UNWIND)

    def end(self) -> None:
        """Watch no more."""
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        if self._tool >= 0:
            for code in self._codes:
                monitoring.set_local_events(self._tool, code, 0)
            monitoring.set_events(self._tool, 0)
            monitoring.free_tool_id(self._tool)
            monitoring.restart_events()

    def is_on(self) -> bool:
        """Nobody can replace it."""
        return True

    def hide(self) -> None:
        """Trace functions are not touched."""

    def in_threads(self, threading: Any) -> None:
        """All threads are watched."""


def watching(watch: Watch, lost: Callable[[str], None]) -> Tracing | Monitoring:
    """What fits this interpreter."""
    return Monitoring(watch, lost) if _VERSION >= (3, 12) else Tracing(watch, lost)
