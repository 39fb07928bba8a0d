"""`python-seed`: the initial state of the streams of Python's `random`."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor


def _inside(process: Any, how: str) -> None:
    from auditor.record.entropy import Source, outside_workers
    from auditor.record.imports import when_imported
    from auditor.record.wrapping import stand_in

    source, holds = Source(process, "python-seed", how), outside_workers(process)

    def install(random: Any) -> None:
        original = random.Random.seed

        def seed(self: Any, a: Any = None, version: int = 2) -> None:
            """The original, except where a seed comes from if none was given."""
            if a is None and holds() and not isinstance(self, random.SystemRandom):
                a = source.integer(64)
            original(self, a, version)

        random.Random.seed = stand_in(original, seed)
        random.seed = random._inst.seed
        random._inst.seed()

    when_imported("random", install)


FACTOR = Factor(
    name="python-seed",
    because="Python's random is seeded differently",
    why="Python's random starts from OS entropy unless the script calls random.seed",
    remedy="random.seed(0) at the top of the script, and a seed in each random.Random(0)",
    inside=_inside,
    entropy=True,
    order=2,
    streams=("python",),
    fixes=("seed-python",),
)
