"""`environment`: language, time zone, temporary folder and terminal width."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from auditor.factors import Factor

if TYPE_CHECKING:
    from auditor.plan import Plan

_OF_THE_ZONE = ("localtime", "mktime", "ctime", "tzset")
_OF_THE_LANGUAGE = ("getlocale", "getpreferredencoding", "getencoding", "setlocale", "strcoll", "strxfrm")
_VARIABLES = ("LANG", "LANGUAGE", "TZ", "TMPDIR", "COLUMNS")


def _pin(plan: Plan) -> Plan:
    return plan.with_environment(LC_ALL="C.UTF-8", TZ="UTC")


def _vary(plan: Plan) -> Plan:
    plan = plan.with_environment(LC_ALL="C", TZ="Pacific/Kiritimati", PYTHONUTF8="1", COLUMNS="203")
    usual = plan.variable("TMPDIR") or "/tmp"  # noqa: S108  # what Python takes
    other = next((folder for folder in ("/var/tmp", "/tmp") if folder != usual and os.access(folder, os.W_OK | os.X_OK)), None)  # noqa: S108
    return plan.with_environment(TMPDIR=other) if other is not None else plan


def _inside(process: Any, _how: str) -> None:
    """Only records where settings are read: they are pinned and varied from outside."""
    import sys
    import time
    from functools import partial

    from auditor.record.imports import when_imported
    from auditor.record.source_tracker import SourceTracker, caller, telling_script
    from auditor.record.wrapping import replace, replace_in_type, telling

    entering = SourceTracker(process, "environment")

    def watch(module: Any, name: str, when: Any = None) -> None:
        if hasattr(module, name):
            replace(module, name, partial(telling_script, entering, f"{module.__name__}.{name}", when=when))

    def dates(module: Any) -> None:
        for owner, name, when in (
            ("datetime", "now", lambda _cls, *zone, **named: _without_zone(*zone, **named)),
            ("datetime", "fromtimestamp", lambda _cls, *given, tz=None, **_named: _without_zone(*given[1:], tz)),
            ("datetime", "timestamp", lambda self: self.tzinfo is None),
            ("datetime", "astimezone", lambda self, *zone, **named: self.tzinfo is None or _without_zone(*zone, **named)),
            ("date", "fromtimestamp", None),
            ("date", "today", None),
        ):
            replace_in_type(getattr(module, owner), name, partial(telling_script, entering, f"datetime.{owner}.{name}", when=when))

    def languages(module: Any) -> None:
        for name in _OF_THE_LANGUAGE:
            watch(module, name, (lambda *given, **named: "" in (*given, *named.values())) if name == "setlocale" else None)

    def folders(module: Any) -> None:
        """`mkdtemp`, `NamedTemporaryFile` and similar functions ask `gettempdir`, unless they are given a folder."""

        def tell() -> None:
            frame = caller(sys._getframe(1))
            while frame is not None and frame.f_globals.get("__name__") == "tempfile":
                frame = caller(frame.f_back)
            entering.tell_if_script("tempfile.gettempdir", frame)

        module.gettempdir = telling(module.gettempdir, tell)

    def read(_variables: Any, *given: Any, **_named: Any) -> None:
        name = given[0] if given else None
        if isinstance(name, str) and (name in _VARIABLES or name.startswith("LC_")):
            frame = caller(sys._getframe(1))
            if frame is not None and frame.f_code.co_name == "getenv" and frame.f_globals.get("__name__") == "os":
                frame = frame.f_back
            entering.tell_if_script(f"os.environ {name}", frame)

    for name in _OF_THE_ZONE:
        watch(time, name)
    watch(time, "strftime", lambda *given: len(given) == 1)
    # not `[]`: code that copies all variables reads each of them by it
    type(os.environ).get = telling(type(os.environ).get, read)  # type: ignore[method-assign]
    when_imported("datetime", dates)
    when_imported("locale", languages)
    when_imported("tempfile", folders)
    when_imported("shutil", lambda module: watch(module, "get_terminal_size"))


def _without_zone(*zone: Any, **named: Any) -> bool:
    return all(given is None for given in (*zone, *named.values()))


FACTOR = Factor(
    name="environment",
    because="locale, time zone or similar settings differ",
    why="language, time zone and similar settings differ between users",
    remedy="name the language, time zone or encoding in the script where data depends on it",
    pin=_pin,
    vary=_vary,
    inside=_inside,
    watches=True,
    order=14,
    calls=("locale.getlocale", "locale.getpreferredencoding", "tempfile.gettempdir", "tempfile.mkdtemp", "time.tzset"),
    each_call=True,
)
