"""`process-id`: the numbers of processes, as the script asks for them."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor

_FIRST = 4242


def _inside(process: Any, how: str) -> None:
    """Only the script's own code gets other numbers: libraries use the real ones to tell a child from its parent."""
    import os
    import sys

    from xxhash import xxh3_64_intdigest

    from auditor.record.callsite import is_user_code
    from auditor.record.entropy import role_of

    first = _FIRST if how == "pin" else 31_337

    def own() -> int:
        role = role_of(process)
        return first + 1 + xxh3_64_intdigest(role) % 20_000 if role else first

    def parents() -> int:
        """That of the process which the user started, for all that it starts."""
        return first if role_of(process) else first - 1

    def pinned(original: Any, number: Any) -> Any:
        def told() -> int:
            return int(number() if is_user_code(sys._getframe(1).f_code.co_filename) else original())

        told.__name__, told.__doc__ = original.__name__, original.__doc__
        return told

    os.getpid, os.getppid = pinned(os.getpid, own), pinned(os.getppid, parents)


FACTOR = Factor(
    name="process-id",
    why="the number of a process is another one in each run, and a seed or a name that is made of it too",
    remedy="a seed or name that is written down, not made of os.getpid()",
    inside=_inside,
)
