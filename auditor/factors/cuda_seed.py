"""`cuda-seed`: the initial state of the generators of CUDA devices."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor, needs_cuda


def _inside(process: Any, how: str) -> None:
    from auditor.record.entropy import Source, outside_workers, seeds_from
    from auditor.record.imports import when_imported
    from auditor.record.wrapping import replace_in_type

    source, holds = Source(process, "cuda-seed", how), outside_workers(process)

    def install(torch: Any) -> None:
        torch.cuda.manual_seed_all(source.integer(63))  # kept until CUDA is initialised
        replace_in_type(torch._C.Generator, "seed", seeds_from(source, lambda generator: generator.device.type != "cpu" and holds()))

    when_imported("torch", install)


FACTOR = Factor(
    name="cuda-seed",
    because="the CUDA generators are seeded differently",
    why="the generators of CUDA devices start from OS entropy unless the script calls torch.manual_seed",
    remedy="torch.manual_seed(0) before anything is built or drawn; it seeds all devices",
    inside=_inside,
    unavailable=needs_cuda,
    entropy=True,
    order=15,
    streams=("torch-cuda",),
    fixes=("seed-torch",),
)
