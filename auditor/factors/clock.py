"""`clock`: the times that the script reads. A pinned clock still advances, by a millisecond per reading."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor

#: 2020-09-13 12:26:40 UTC, in ns; a varied clock is more than a year later.
_START = 1_600_000_000_000_000_000
_LATER = 40_000_000_000_000_000
_TICK = 1_000_000

_CLOCKS = ("time", "perf_counter", "monotonic", "process_time", "thread_time", "clock_gettime")
#: Functions that take a time, or its fields, and use the present if none is given; and the position of that argument.
_OF_A_TIME = {"localtime": 0, "gmtime": 0, "ctime": 0, "asctime": 0, "strftime": 1}
_OF_FIELDS = ("asctime", "strftime")
#: Functions of `datetime`, and the class that defines them.
_OF_CLASSES = {"now": "datetime", "utcnow": "datetime", "today": "date"}


def _inside(process: Any, how: str) -> None:
    """Only readings by the script's own code are recorded and pinned: libraries time their waiting by the same clocks."""
    from auditor.record.source_tracker import SourceTracker

    entering = SourceTracker(process, "clock")
    if how == "watch":
        _watch(entering)
    else:
        _pin(entering, _START + _LATER if how == "vary" else _START)


def _watch(entering: Any) -> None:
    import sys
    import time
    from functools import partial

    from auditor.record.imports import when_imported
    from auditor.record.source_tracker import telling_script
    from auditor.record.wrapping import replace_in_type, telling

    def watched(name: str) -> Any:
        # the very caller: `date.today` asks `time.time`, from C
        return telling(getattr(time, name), lambda *_given: entering.tell_if_script(f"time.{name}", sys._getframe(2)))

    for name in _names(time):
        setattr(time, name, watched(name))
    for name in _OF_A_TIME:
        at_present = partial(_is_at_present, name)
        setattr(time, name, telling_script(entering, f"time.{name}", getattr(time, name), at_present))

    def install(module: Any) -> None:
        for name, owner in _OF_CLASSES.items():
            replace_in_type(getattr(module, owner), name, partial(telling_script, entering, f"datetime.{owner}.{name}"))

    when_imported("datetime", install)


def _pin(entering: Any, start: int) -> None:
    import sys
    import time

    from auditor.record.callsite import is_user_code
    from auditor.record.imports import when_imported
    from auditor.record.source_tracker import caller
    from auditor.record.wrapping import replace_in_type, stand_in

    readings = 0
    localtime = time.localtime

    def now() -> int:
        nonlocal readings
        readings += 1
        return start + readings * _TICK

    def asked_by_script(function: str, frame: Any) -> bool:
        """Whether this frame is the user's code; then the reading is recorded."""
        if frame is None or not is_user_code(frame.f_code.co_filename):
            return False
        entering.tell(function, frame)
        return True

    def reading(name: str, original: Any) -> Any:
        per_second = None if name.endswith("_ns") else 1_000_000_000

        def read(*given: Any) -> Any:
            real = original(*given)  # which refuses what it refuses
            if not asked_by_script(f"time.{name}", sys._getframe(2)):
                return real
            return now() if per_second is None else now() / per_second

        return stand_in(original, read)

    def at_pinned_time(name: str, original: Any) -> Any:
        position = _OF_A_TIME[name]

        def read(*given: Any) -> Any:
            if not _is_at_present(name, *given) or not asked_by_script(f"time.{name}", caller(sys._getframe(1))):
                return original(*given)
            present = now() / 1e9
            return original(*given[:position], localtime(present) if name in _OF_FIELDS else present)

        return stand_in(original, read)

    for name in _names(time):
        setattr(time, name, reading(name, getattr(time, name)))
    for name in _OF_A_TIME:
        setattr(time, name, at_pinned_time(name, getattr(time, name)))

    def install(module: Any) -> None:
        cls, date = module.datetime, module.date
        plain_now, plain_utcnow, plain_today = vars(cls)["now"], vars(cls)["utcnow"], vars(date)["today"]

        def at_now(of: Any, *given: Any, **named: Any) -> Any:
            real = plain_now.__get__(None, of)(*given, **named)
            asked = asked_by_script("datetime.datetime.now", caller(sys._getframe(1)))
            return of.fromtimestamp(now() / 1e9, real.tzinfo) if asked else real

        def at_utcnow(of: Any, *given: Any) -> Any:
            real = plain_utcnow.__get__(None, of)(*given)
            if not asked_by_script("datetime.datetime.utcnow", caller(sys._getframe(1))):
                return real
            return of.fromtimestamp(now() / 1e9, module.timezone.utc).replace(tzinfo=None)

        def at_today(of: Any, *given: Any) -> Any:
            real = plain_today.__get__(None, of)(*given)
            return of.fromtimestamp(now() / 1e9) if asked_by_script("datetime.date.today", caller(sys._getframe(1))) else real

        replace_in_type(cls, "now", lambda method: stand_in(method, at_now))
        replace_in_type(cls, "utcnow", lambda method: stand_in(method, at_utcnow))
        replace_in_type(date, "today", lambda method: stand_in(method, at_today))

    when_imported("datetime", install)


def _names(time: Any) -> list[str]:
    return [name for clock in _CLOCKS for name in (clock, f"{clock}_ns") if hasattr(time, name)]


def _is_at_present(name: str, *given: Any) -> bool:
    return len(given) == _OF_A_TIME[name] or (given == (None,) and name not in _OF_FIELDS)


_TIMES = tuple(f"time.{name}" for name in ("time", "perf_counter", "monotonic", "process_time", "thread_time"))
_CALLS = (
    *_TIMES, *(f"{name}_ns" for name in _TIMES), "time.localtime", "time.gmtime", "time.ctime", "time.strftime",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
)  # fmt: skip

FACTOR = Factor(
    name="clock",
    because="the clock differs",
    why="the clock differs between runs, and so does anything computed from it",
    remedy="do not compute with the time: use a constant seed or name, and only print a duration",
    inside=_inside,
    watches=True,
    order=6,
    kinds={"hidden-write": 0, "outside-torch": 0, "structure": 1, "argument": 1, "failed": 1, "kernel": 2},
    calls=_CALLS,
    each_call=True,
    fixes=("constant-seed",),
)
