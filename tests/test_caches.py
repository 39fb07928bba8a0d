"""Code compiled for another instruction set has a cache of its own."""

from __future__ import annotations

from pathlib import Path

from auditor import plugins
from auditor.factors import plan_with
from auditor.pipeline.reruns import with_own_caches
from auditor.plan import Plan

_NAMES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def test_runs_with_other_instruction_sets_have_their_own_compile_cache(tmp_path: Path) -> None:
    factors = plugins.factors()
    plan = Plan(("train.py",), cwd=str(tmp_path)).with_environment(TRITON_CACHE_DIR="/mine")

    def caches(pinned: list[str], varied: list[str]) -> list[str | None]:
        made = with_own_caches(plan_with(plan, factors, pinned, varied), tmp_path)
        return [made.variables.get(name) for name in _NAMES]

    usual = [None, "/mine"]
    assert caches([], []) == caches(["torch-seed"], ["hash-seed"]) == usual
    own = [caches([], ["cpu-isa"]), caches([], ["threads"]), caches(["cpu-isa"], []), caches([], ["threads", "cpu-isa"])]
    assert len({tuple(one) for one in own}) == len(own)
    assert all(path is not None and Path(path).is_relative_to(tmp_path) for one in own for path in one)
    assert own[0] == caches(["torch-seed"], ["cpu-isa"])
