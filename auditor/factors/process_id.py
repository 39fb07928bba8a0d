"""`process-id`: the process ids that the script reads."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor

_FIRST = 4242


def _inside(process: Any, how: str) -> None:
    """Only the script's own code is recorded and gets other numbers: libraries need the real ones to tell a child from its parent."""
    import os
    import sys
    from functools import partial

    from xxhash import xxh3_64_intdigest

    from auditor.record.callsite import is_user_code
    from auditor.record.entropy import role_of
    from auditor.record.source_tracker import SourceTracker
    from auditor.record.wrapping import replace, stand_in, telling

    entering = SourceTracker(process, "process-id")
    first = _FIRST if how == "pin" else 31_337

    def own() -> int:
        role = role_of(process)
        return first + 1 + xxh3_64_intdigest(role) % 20_000 if role else first

    def parents() -> int:
        """The parent's id: that of the process which the user started, for all processes that it starts."""
        return first if role_of(process) else first - 1

    def asking(frame: Any) -> Any:
        """The frame of the user's code that asks, directly or by `multiprocessing.current_process().pid`; None if a library asks."""
        if frame.f_code.co_name == "ident" and frame.f_globals.get("__name__") == "multiprocessing.process":
            frame = frame.f_back
        return frame if frame is not None and is_user_code(frame.f_code.co_filename) else None

    def watched(name: str, original: Any) -> Any:
        def tell(*_given: Any) -> None:
            frame = asking(sys._getframe(2))
            if frame is not None:
                entering.tell(f"os.{name}", frame)

        return telling(original, tell)

    def pinned(name: str, number: Any, original: Any) -> Any:
        def told(*given: Any) -> int:
            real = int(original(*given))
            frame = asking(sys._getframe(2))
            if frame is None:
                return real
            entering.tell(f"os.{name}", frame)
            return int(number())

        return stand_in(original, told)

    for name, number in (("getpid", own), ("getppid", parents)):
        replace(os, name, partial(watched, name) if how == "watch" else partial(pinned, name, number))


FACTOR = Factor(
    name="process-id",
    because="the process id differs",
    why="the process id differs between runs, and so does anything computed from it",
    remedy="do not compute with os.getpid(): use a constant seed or name",
    inside=_inside,
    watches=True,
    order=8,
    calls=("os.getpid", "os.getppid"),
    each_call=True,
    fixes=("constant-seed",),
)
