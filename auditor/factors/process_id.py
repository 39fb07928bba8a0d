"""`process-id`: the numbers of processes, as the script asks for them."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor

_FIRST = 4242


def _inside(process: Any, how: str) -> None:
    """Only the script's own code gets other numbers: libraries use the real ones to tell a child from its parent."""
    import os
    import sys

    from auditor.record.callsite import is_user_code

    first = _FIRST if how == "pin" else 31_337

    def pinned(original: Any, distance: int) -> Any:
        def number() -> int:
            if not is_user_code(sys._getframe(1).f_code.co_filename):
                return int(original())
            own = process.forks + len(process.parent) * 100 if process.parent else 0
            return first + own - distance

        number.__name__, number.__doc__ = original.__name__, original.__doc__
        return number

    os.getpid, os.getppid = pinned(os.getpid, 0), pinned(os.getppid, 1)


FACTOR = Factor(
    name="process-id",
    why="the number of a process is another one in each run, and a seed or a name that is made of it too",
    remedy="a seed or name that is written down, not made of os.getpid()",
    inside=_inside,
)
