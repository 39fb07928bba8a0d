"""`torch-seed`: the initial state of torch's CPU generator, and what `seed()` of any CPU generator sets."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor


def _inside(process: Any, how: str) -> None:
    from auditor.record.entropy import Source, outside_workers, seeds_from
    from auditor.record.imports import when_imported
    from auditor.record.wrapping import replace_in_type

    source, holds = Source(process, "torch-seed", how), outside_workers(process)

    def install(torch: Any) -> None:
        torch.default_generator.manual_seed(source.integer(63))
        replace_in_type(torch._C.Generator, "seed", seeds_from(source, lambda generator: generator.device.type == "cpu" and holds()))

    when_imported("torch", install)


FACTOR = Factor(
    name="torch-seed",
    because="torch's CPU generator is seeded differently",
    why="torch's CPU generator starts from OS entropy unless the script calls torch.manual_seed",
    remedy="torch.manual_seed(0) before anything is built or drawn",
    inside=_inside,
    entropy=True,
    order=0,
    streams=("torch", ""),  # a stream of which nothing is known is likeliest one of torch's
    fixes=("seed-torch",),
)
