"""`clock`: what the script reads from clocks. A pinned clock still moves: by a millisecond at each reading."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor

#: 2020-09-13 12:26:40 UTC, in ns; varied, it is more than a year later.
_START = 1_600_000_000_000_000_000
_LATER = 40_000_000_000_000_000
_TICK = 1_000_000


def _inside(process: Any, how: str) -> None:
    """Only what the script's own code asks for is pinned: libraries time their waiting by the same clocks."""
    import sys
    import time

    from auditor.record.callsite import is_user_code
    from auditor.record.imports import when_imported
    from auditor.record.probes.wrapping import replace_in_type

    readings = 0
    start = _START + _LATER if how == "vary" else _START

    def now() -> int:
        nonlocal readings
        readings += 1
        return start + readings * _TICK

    def asked_by_script(depth: int) -> bool:
        return is_user_code(sys._getframe(depth + 1).f_code.co_filename)

    def reading(original: Any, per_second: int | None) -> Any:
        def read() -> Any:
            if not asked_by_script(1):
                return original()
            return now() if per_second is None else now() / per_second

        read.__name__, read.__doc__ = original.__name__, original.__doc__
        return read

    for name in ("time", "perf_counter", "monotonic", "process_time"):
        setattr(time, name, reading(getattr(time, name), 1_000_000_000))
        setattr(time, f"{name}_ns", reading(getattr(time, f"{name}_ns"), None))
    for name in ("localtime", "gmtime", "ctime"):
        setattr(time, name, _at_pinned_time(getattr(time, name), now, asked_by_script))

    def install(module: Any) -> None:
        cls, date = module.datetime, module.date
        plain_now, plain_utcnow, plain_today = vars(cls)["now"], vars(cls)["utcnow"], vars(date)["today"]

        def at_now(of: Any, tz: Any = None) -> Any:
            return of.fromtimestamp(now() / 1e9, tz) if asked_by_script(1) else plain_now.__get__(None, of)(tz)

        def at_utcnow(of: Any) -> Any:
            if not asked_by_script(1):
                return plain_utcnow.__get__(None, of)()
            return of.fromtimestamp(now() / 1e9, module.timezone.utc).replace(tzinfo=None)

        def at_today(of: Any) -> Any:
            return of.fromtimestamp(now() / 1e9) if asked_by_script(1) else plain_today.__get__(None, of)()

        replace_in_type(cls, "now", lambda _method: classmethod(at_now))
        replace_in_type(cls, "utcnow", lambda _method: classmethod(at_utcnow))
        replace_in_type(date, "today", lambda _method: classmethod(at_today))

    when_imported("datetime", install)


def _at_pinned_time(original: Any, now: Any, asked_by_script: Any) -> Any:
    def read(*given: Any) -> Any:
        return original(*given) if given or not asked_by_script(1) else original(now() / 1e9)

    return read


FACTOR = Factor(
    name="clock",
    why="the time of day is another one in each run, and a seed or a name that is made of it too",
    remedy="a seed or name that is written down, not made of the time",
    inside=_inside,
)
