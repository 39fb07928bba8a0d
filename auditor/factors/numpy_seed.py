"""`numpy-seed`: the initial state of NumPy's global stream and of generators that are created without a seed."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor


def _inside(process: Any, how: str) -> None:
    from auditor.record.entropy import Source, outside_workers
    from auditor.record.imports import when_imported
    from auditor.record.wrapping import stand_in

    source, holds = Source(process, "numpy-seed", how), outside_workers(process)

    def install(random: Any) -> None:
        bits = random.bit_generator
        randbits = bits.randbits

        def pinned(size: int) -> int:
            """What a SeedSequence without a seed takes from `secrets`."""
            return source.integer(size) if holds() else int(randbits(size))

        bits.randbits = stand_in(randbits, pinned)
        random.mtrand._rand.seed(source.integer(32))

    when_imported("numpy.random", install)


FACTOR = Factor(
    name="numpy-seed",
    because="NumPy's generators are seeded differently",
    why="NumPy's global stream, and each default_rng() or RandomState() without a seed, starts from OS entropy",
    remedy="np.random.seed(0) at the top of the script, and a seed in each default_rng(0)",
    inside=_inside,
    entropy=True,
    order=1,
    streams=("numpy",),
    fixes=("seed-numpy",),
)
