"""`threads`: the number of threads that share the work of an op, which changes the order of sums."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from auditor.factors import Factor

if TYPE_CHECKING:
    from auditor.plan import Plan

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def _pin(plan: Plan) -> Plan:
    return plan.with_environment(**dict.fromkeys(_VARIABLES, "1"))


def _vary(plan: Plan) -> Plan:
    usual = int(plan.variable("OMP_NUM_THREADS") or 0) or os.cpu_count() or 1
    return plan.with_environment(**dict.fromkeys(_VARIABLES, "2" if usual == 1 else str(usual // 2)))


def _inside(_process: Any, how: str) -> None:
    """A torch.set_num_threads call by the script would undo the pinned number."""
    from auditor.record.imports import when_imported
    from auditor.record.wrapping import replace, stand_in

    def install(torch: Any) -> None:
        replace(torch, "set_num_threads", lambda original: stand_in(original, lambda _number: None))

    if how == "pin":
        when_imported("torch", install)


FACTOR = Factor(
    name="threads",
    because="the number of threads differs",
    why="an op splits its work among as many threads as there are cores, and the order of its sums depends on that",
    remedy="torch.set_num_threads(1), or the same number of threads wherever results must be equal bit for bit",
    pin=_pin,
    vary=_vary,
    inside=_inside,
    numerical=True,
    order=20,
    changes="another number of threads changes",
)
