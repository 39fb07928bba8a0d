"""Distinguishes an exception that interrupts our code from one that our code raised: the script must see the first as without us.

A signal handler can raise between any two calls, also inside a `try` of ours, and so can a trace function or another thread
(`PyThreadState_SetAsyncExc`). So every `except` in the user's process that does not end with `raise` asks here first.
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
#: Modules that define the exceptions of the code that we call.
_OURS = {"builtins", "torch", "numpy", "auditor", *sys.stdlib_module_names}
_RAISING = {opmap[name] for name in ("RAISE_VARARGS", "RERAISE") if name in opmap}


def interrupts(error: BaseException) -> bool:
    """Whether an exception does not come from the guarded code and must propagate; if so, our frames are removed from its traceback.

    Python passes a signal handler and a trace function the frame that they interrupt. An exception from another thread is not raised by a
    statement here, and it is a bare class, whereas a C function gives its exception a message.
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
    """Remove our innermost frames from a traceback; for an `except` that ends with a bare `raise`, which adds none (3.11 and later)."""
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
    """The code of all signal handlers: one that deletes its arguments can only be recognized by its code."""
    found = []
    for number in _signal.valid_signals():
        handler = _signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # of a partial
        handler = getattr(handler, "__func__", handler)
        call = vars(type(handler)).get("__call__")
        found.append(getattr(handler, "__code__", getattr(call, "__code__", None)))
    return [code for code in found if code is not None]
