"""`leftover-files`: files that an earlier run left in the working directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.factors import Factor, Signs

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    """In a copy of the directory as it was before the first run."""
    return plan.with_leftovers("pin")


def _vary(plan: Plan) -> Plan:
    """In such a copy without the files that runs create."""
    return plan.with_leftovers("vary")


FACTOR = Factor(
    name="leftover-files",
    because="an earlier run left files behind",
    why="a run finds files that an earlier run left in the working directory, such as a checkpoint or a cache, and continues from them",
    remedy="write to a new folder in each run, or remove the old files before the run starts",
    pin=_pin,
    vary=_vary,
    order=5,
    kinds={"failed": 0},
    signs=Signs(files=("other-content", "other-names", "one-run-only")),
    between_runs=True,
    fixes=("remove-leftover",),
)
