"""`os-entropy`: random bytes that the script takes from the operating system: os.urandom, secrets, uuid4, random.SystemRandom."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor


def _inside(process: Any, how: str) -> None:
    import os

    from auditor.record.entropy import Source, outside_workers
    from auditor.record.imports import when_imported

    source, holds = Source(process, "os-entropy", how), outside_workers(process)
    originals = {name: getattr(os, name) for name in ("urandom", "getrandom") if hasattr(os, name)}

    def pinned(original: Any) -> Any:
        def take(size: int, *flags: Any) -> bytes:
            return source.take(size) if holds() else bytes(original(size, *flags))

        return take

    for name, original in originals.items():
        setattr(os, name, pinned(original))
    when_imported("random", lambda random: setattr(random, "_urandom", os.urandom))


FACTOR = Factor(
    name="os-entropy",
    why="os.urandom, secrets, uuid4 and random.SystemRandom give other bytes in each run, and no seed changes that",
    remedy="a seeded generator in the place of os.urandom, secrets, uuid4 or SystemRandom",
    inside=_inside,
)
