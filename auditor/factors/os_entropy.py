"""`os-entropy`: random bytes that the script takes from the operating system: os.urandom, secrets, uuid4, random.SystemRandom."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor

#: Modules of Python's library that take bytes for their caller; others (sockets, temporary files, child processes) use them internally.
_BETWEEN = ("random", "secrets", "uuid")


def _inside(process: Any, how: str) -> None:
    import os
    import sys
    from functools import partial

    from auditor.record.callsite import is_user_code
    from auditor.record.entropy import Source, outside_workers
    from auditor.record.imports import when_imported
    from auditor.record.process import in_standard_library
    from auditor.record.source_tracker import SourceTracker, caller, in_users_code
    from auditor.record.wrapping import replace, stand_in, telling

    entering = SourceTracker(process, "os-entropy")
    source, holds = Source(process, "os-entropy", how), outside_workers(process)

    def is_between(frame: Any) -> bool:
        """Whether this frame takes bytes for its caller: it is of these modules, or of code without a file, as a dataclass's `__init__`."""
        name = frame.f_code.co_filename
        return frame.f_globals.get("__name__") in _BETWEEN or (name.startswith("<") and not name.startswith("<frozen"))

    def is_torch(frame: Any) -> bool:
        """Whether this frame is torch's, which draws its numbers elsewhere; it takes bytes for names that Dynamo and others give."""
        return str(frame.f_globals.get("__name__")).partition(".")[0] == "torch"

    def tell(function: str, frame: Any) -> None:
        """Record the line of the user's for which bytes are taken, if there is one."""
        frame = caller(frame)
        while frame is not None and not is_user_code(frame.f_code.co_filename) and is_between(frame):
            frame = caller(frame.f_back)
        if frame is None:
            return
        if is_user_code(frame.f_code.co_filename):
            entering.tell(function, frame)
        elif not in_standard_library(frame.f_code.co_filename) and not is_torch(frame):
            found = in_users_code(frame)
            if found is not None:
                entering.tell(function, found, "library")

    def watched(name: str, original: Any) -> Any:
        return telling(original, lambda *_given: tell(f"os.{name}", sys._getframe(2)))

    def pinned(name: str, original: Any) -> Any:
        def take(*given: Any, **named: Any) -> bytes:
            real = bytes(original(*given, **named))  # which refuses what it refuses
            tell(f"os.{name}", sys._getframe(2))
            return source.take(len(real)) if holds() else real

        return stand_in(original, take)

    for name in ("urandom", "getrandom"):
        if hasattr(os, name):
            replace(os, name, partial(watched if how == "watch" else pinned, name))
    when_imported("random", lambda random: setattr(random, "_urandom", os.urandom))


FACTOR = Factor(
    name="os-entropy",
    because="the operating system returns different random bytes",
    why="os.urandom, secrets, uuid4 and random.SystemRandom return different bytes in every run, and no seed changes that",
    remedy="use a seeded generator instead of os.urandom, secrets, uuid4 or SystemRandom",
    inside=_inside,
    watches=True,
    entropy=True,
    also_pins=("numpy-seed",),
    order=7,
    streams=("os-entropy",),
    calls=(
        "os.urandom", "os.getrandom", "secrets.token_bytes", "secrets.token_hex", "secrets.token_urlsafe", "secrets.randbelow",
        "secrets.randbits", "secrets.choice", "uuid.uuid4", "uuid.uuid1", "random.SystemRandom",
    ),
    each_call=True,
    fixes=("constant-seed", "seed-generators"),
)  # fmt: skip
