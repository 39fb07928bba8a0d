"""`address-layout`: where in memory things lie, by which objects without a hash of their own are ordered in sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.factors import Factor, Signs

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    """Hash seeds are held as well: the order of a set of strings decides in which order things are allocated.

    So is most of what unwritten memory holds, which is what lay there before, addresses among it.
    """
    given = plan.variable("PYTHONHASHSEED")
    return plan.with_fixed_addresses().with_environment(PYTHONHASHSEED=given if given not in (None, "", "random") else "0")


def _unavailable() -> str | None:
    import sys

    return None if sys.platform == "linux" else "addresses can be held still only under Linux"


FACTOR = Factor(
    name="address-layout",
    because="memory addresses differ",
    why="memory addresses differ between runs, and sets of plain objects are ordered by them",
    remedy="sorted(..., key=...) by something that is not id() or the default hash()",
    pin=_pin,
    unavailable=_unavailable,
    entropy=True,
    along=("hash-seed", "uninitialized-memory"),
    order=13,
    kinds={"data-order": 1, "uninitialized": 1},
    signs=Signs(orders=("set", "pop", "best", "hash", "id")),
    fixes=("sets-as-dicts",),
)
