"""Tells at which line of the user's code a source of variation came in: events of kind `entered`.

A factor that is pinned, varied or watched stands in for the functions by which a script takes from it, and they tell here. Nothing here
changes what they give; where no line of the user's asked, nothing is told.
"""

from __future__ import annotations

import _thread
import sys
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.callsite import is_ours, is_user_code
from auditor.record.imports import failed, when_imported
from auditor.record.wrapping import stand_in, telling

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from auditor.record.process import Process

#: Of one function on one line; behind them only the 1,024th, the 2,048th and so on, so that the last one is never far.
_MOST_TOLD = 1000


class SourceTracker:
    """Where one factor enters in this process and in those that are forked from it."""

    def __init__(self, process: Process, factor: str, once: bool = False) -> None:
        """With `once`, a line is told of the first time only."""
        self._process = process
        self._factor = factor
        self._most = 1 if once else _MOST_TOLD
        self._once = once
        self._told: dict[tuple[int, str, str, int], int] = {}

    def tell(self, function: str, frame: FrameType, asked_by: str = "script", **facts: object) -> None:
        """Write that this frame, which is of the user's code, took from the factor; `asked_by`: `library` if one did so on its behalf."""
        try:
            self._tell(function, frame, {"asked_by": asked_by, **facts})
        except Exception as error:  # what we fail to note must not end the user's program
            if interrupts(error):
                raise
            failed(SourceTracker.tell, error)

    def tell_if_script(self, function: str, frame: FrameType | None) -> None:
        """The same, if the frame is of the user's code."""
        if frame is not None and is_user_code(frame.f_code.co_filename):
            self.tell(function, frame)

    def _tell(self, function: str, frame: FrameType, facts: dict[str, object]) -> None:
        process = self._process
        lane = process.existing_lane()
        if lane is None:
            if process.opening.locked():  # a finalizer that runs while this very thread opens its lane would wait for ever
                return
            if _thread.get_ident() != process.main_thread and process.lanes:
                # A process has few lanes. A thread that runs no op needs none of its own, and without us it would have none.
                lane = process.lanes[0]
                facts["thread"] = process.thread_number()
            else:
                lane = process.lane()
        code = frame.f_code
        place = lane.base, function, code.co_filename, frame.f_lineno
        nth = self._told[place] = self._told.get(place, 0) + 1
        if nth > self._most and (self._once or nth & (nth - 1)):
            return
        # The place itself, not the number of one: those of a lane are given out by its own thread.
        facts |= {"file": code.co_filename, "line": frame.f_lineno, "func": getattr(code, "co_qualname", code.co_name)}
        lane.event("entered", False, factor=self._factor, function=function, nth=nth, **facts)


def caller(frame: FrameType | None) -> FrameType | None:
    """The first frame from here outwards that is not of the auditor: functions that several of us watch have several stand-ins."""
    while frame is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def in_users_code(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of the user's code from here outwards; None if there is none, or if a library is only being imported."""
    while frame is not None and not is_user_code(frame.f_code.co_filename):
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return None
        frame = frame.f_back
    return frame


def watch_executor(entering: SourceTracker, module: str, executor: str, told: bool) -> None:
    """Tell where `as_completed` is asked for what an executor of this class was given, and, if so `told`, where it was given it."""
    import weakref

    given: weakref.WeakSet[Any] = weakref.WeakSet()

    def submitted(future: Any, *_args: Any, **_kwargs: Any) -> None:
        given.add(future)
        if told:
            entering.tell_if_script(f"{executor}.submit", _asking_for_futures())

    def as_they_come(futures: Any = (), *_args: Any, **_kwargs: Any) -> None:
        # nothing else is looked into: a generator would be used up
        if type(futures) in (list, tuple, set, frozenset, dict) and any(future in given for future in futures):
            entering.tell_if_script("concurrent.futures.as_completed", _asking_for_futures())

    def executors(module: Any) -> None:
        cls = getattr(module, executor)
        cls.submit = telling(cls.submit, submitted, after=True)

    def results(module: Any) -> None:
        module.as_completed = telling(module.as_completed, as_they_come)

    when_imported(module, executors)
    when_imported("concurrent.futures._base", results)


def _asking_for_futures() -> FrameType | None:
    """The first frame that is of neither `concurrent.futures` nor the auditor: `map` submits too."""
    frame = caller(sys._getframe(1))
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("concurrent.futures"):
        frame = caller(frame.f_back)
    return frame


def telling_script(entering: SourceTracker, name: str, function: Any, when: Callable[..., bool] | None = None) -> Any:
    """A stand-in that tells of each call by the user's code; with `when`, of those with such arguments."""

    def tell(*args: Any, **kwargs: Any) -> None:
        if when is None or when(*args, **kwargs):
            entering.tell_if_script(name, caller(sys._getframe(1)))

    return telling(function, tell)


def with_one(begin: Any) -> Any:
    """For a pool's `__init__`, whose first argument says how many do the work: one does, if any number may."""

    def alone(pool: Any, *given: Any, **named: Any) -> None:
        first = begin.__code__.co_varnames[1]
        most = given[0] if given else named.pop(first, None)
        begin(pool, 1 if most is None or most > 0 else most, *given[1:], **named)

    return stand_in(begin, alone)
