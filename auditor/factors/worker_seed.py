"""`worker-seed`: all streams of DataLoader workers; `torch-seed` and its like are of every process but those."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor


def _inside(process: Any, how: str) -> None:
    from auditor.record.entropy import Source
    from auditor.record.imports import when_imported
    from auditor.record.probes.wrapping import position_of

    def begins(worker_id: int) -> int:
        """Seed what the worker has by its number; says the base seed."""
        import os
        import random
        import sys

        source = Source(process, f"worker-seed {worker_id}", how)
        os.urandom = source.take
        random._urandom = source.take  # type: ignore[attr-defined]  # what SystemRandom takes
        original = random.Random.seed
        random.Random.seed = lambda self, a=None, version=2: original(self, source.integer(64) if a is None else a, version)  # type: ignore[method-assign]
        numpy = sys.modules.get("numpy.random")
        if numpy is not None:
            numpy.bit_generator.randbits = source.integer
        return source.integer(62)

    def install(worker: Any) -> None:
        loop = worker._worker_loop
        number, base = position_of(loop, "worker_id"), position_of(loop, "base_seed")

        def seeded(*args: Any) -> Any:
            given = list(args)
            given[base] = begins(args[number])
            return loop(*given)

        seeded.__wrapped__ = loop  # type: ignore[attr-defined]  # whoever is next looks for the parameters there
        seeded.__module__, seeded.__name__, seeded.__qualname__ = loop.__module__, loop.__name__, loop.__qualname__
        worker._worker_loop = seeded

    when_imported("torch.utils.data._utils.worker", install)


FACTOR = Factor(
    name="worker-seed",
    why="DataLoader workers draw from streams of their own, which are seeded from the loader's base seed or by the operating system",
    remedy="DataLoader(..., generator=torch.Generator().manual_seed(0), worker_init_fn=...), which seeds all that the dataset draws from",
    inside=_inside,
    entropy=True,
)
