"""Tells an exception of the script's from one that our own code met: the first must arrive where it would have arrived without us.

A signal handler can raise between any two calls, also within a `try` of ours, and so can a trace function or another thread
(`PyThreadState_SetAsyncExc`). So each `except` in the user's process that does not end with `raise` asks first.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the part of C, without what `signal` itself imports
import os
import sys
from opcode import opmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

_AUDITOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
#: Where the classes are defined that code raises which we call.
_OURS = {"builtins", "torch", "numpy", "auditor", *sys.stdlib_module_names}
_RAISING = {opmap[name] for name in ("RAISE_VARARGS", "RERAISE") if name in opmap}


def interrupts(error: BaseException) -> bool:
    """Whether an exception is none of the code that is guarded and has to go on; if so, our frames are off its traceback.

    Python gives a signal handler and a trace function the frame that they interrupted. What another thread raises here is raised by no
    statement, and it is a bare class, where a function of C says what is wrong.
    """
    last = trace = error.__traceback__
    while trace is not None:
        last, trace = trace, trace.tb_next
        code = last.tb_frame.f_code
        if not code.co_filename.startswith(_AUDITOR) and _interrupted(last.tb_frame, code):
            hide_us(error)
            return True
    if last is None or isinstance(error, (MemoryError, StopIteration)):
        return False
    raised = last.tb_frame.f_code.co_code[last.tb_lasti] in _RAISING
    if raised or (error.args and type(error).__module__.partition(".")[0] in _OURS):
        return False
    hide_us(error)
    return True


def hide_us(error: BaseException) -> None:
    """Take our innermost frames off a traceback; for an `except` that ends with a bare `raise`, which adds none (3.11 and later)."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_AUDITOR):
        trace = trace.tb_next
    error.__traceback__ = trace


def _interrupted(frame: FrameType, code: CodeType) -> bool:
    """Whether Python itself called this frame in the middle of another one."""
    given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4)]  # with *args
    names, before = frame.f_locals, frame.f_back
    values = [names.get(name) for name in given]
    if before is not None and any(value is before or (type(value) is tuple and any(one is before for one in value)) for value in values):
        return True
    return bool(given) and any(code is handler for handler in _handlers())


def _handlers() -> list[object]:
    """The code of all handlers that are set: one that deletes its arguments can only be told by it."""
    found = []
    for number in _signal.valid_signals():
        handler = _signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # of a partial
        handler = getattr(handler, "__func__", handler)
        call = vars(type(handler)).get("__call__")
        found.append(getattr(handler, "__code__", getattr(call, "__code__", None)))
    return [code for code in found if code is not None]
