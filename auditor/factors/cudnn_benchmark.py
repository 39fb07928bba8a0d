"""`cudnn-benchmark`: whether cuDNN chooses among algorithms by timing them."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor, needs_cuda


def _inside(_process: Any, how: str) -> None:
    from auditor.record.imports import when_imported
    from auditor.record.wrapping import replace, stand_in

    def install(torch: Any) -> None:
        torch._C._set_cudnn_benchmark(how == "vary")
        # the script's own setting would undo it
        replace(torch._C, "_set_cudnn_benchmark", lambda original: stand_in(original, lambda _on: None))

    when_imported("torch", install)


FACTOR = Factor(
    name="cudnn-benchmark",
    because="cuDNN chooses different algorithms",
    why="with torch.backends.cudnn.benchmark on, cuDNN times its algorithms and may choose a different one in each run",
    remedy="torch.backends.cudnn.benchmark = False",
    inside=_inside,
    unavailable=needs_cuda,
    numerical=True,
    entropy=True,
    order=17,
    kinds={"kernel-on-cuda": 1},
    intermittent=True,
)
