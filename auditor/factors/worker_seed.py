"""`worker-seed`: all random streams of DataLoader workers; `torch-seed` and similar factors cover every other process."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor, Signs


def _inside(process: Any, how: str) -> None:
    from auditor.record.entropy import Source
    from auditor.record.imports import when_imported
    from auditor.record.wrapping import position_of, replace, stand_in

    def begins(worker_id: int) -> int:
        """Seed the worker's streams by its number; returns the base seed."""
        import os
        import random
        import sys

        source = Source(process, f"worker-seed {worker_id}", how)
        replace(os, "urandom", lambda urandom: stand_in(urandom, source.take))
        random._urandom = os.urandom  # type: ignore[attr-defined]  # what SystemRandom takes
        original = random.Random.seed

        def seed(self: Any, a: Any = None, version: int = 2) -> None:
            original(self, source.integer(64) if a is None else a, version)

        random.Random.seed = stand_in(original, seed)  # type: ignore[method-assign]
        numpy = sys.modules.get("numpy.random")
        if numpy is not None:
            numpy.bit_generator.randbits = stand_in(numpy.bit_generator.randbits, source.integer)
        return source.integer(62)

    def install(worker: Any) -> None:
        loop = worker._worker_loop
        number, base = position_of(loop, "worker_id"), position_of(loop, "base_seed")

        def seeded(*args: Any) -> Any:
            given = list(args)
            given[base] = begins(args[number])
            return loop(*given)

        worker._worker_loop = stand_in(loop, seeded)

    when_imported("torch.utils.data._utils.worker", install)


FACTOR = Factor(
    name="worker-seed",
    because="DataLoader workers are seeded differently",
    why="DataLoader workers draw from streams of their own, which start from the loader's base seed or from OS entropy",
    remedy="DataLoader(..., generator=torch.Generator().manual_seed(0), worker_init_fn=...) that seeds every stream of the dataset",
    inside=_inside,
    entropy=True,
    order=3,
    signs=Signs(streams_of_workers=True),
    fixes=("seed-workers",),
)
