"""`address-layout`: memory addresses, which order sets of objects without a hash of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.factors import Factor, Signs

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    """Pins the hash seed too: the order of a set of strings decides in which order objects are allocated.

    Uninitialized memory is pinned as well: it holds old content, addresses among it.
    """
    given = plan.variable("PYTHONHASHSEED")
    return plan.with_fixed_addresses().with_environment(PYTHONHASHSEED=given if given not in (None, "", "random") else "0")


def _unavailable() -> str | None:
    import sys

    return None if sys.platform == "linux" else "addresses can be pinned only under Linux"


FACTOR = Factor(
    name="address-layout",
    because="memory addresses differ",
    why="memory addresses differ between runs, and they order sets of plain objects",
    remedy="sorted(..., key=...) with a key other than id() or the default hash()",
    pin=_pin,
    unavailable=_unavailable,
    entropy=True,
    also_pins=("hash-seed", "uninitialized-memory"),
    order=13,
    kinds={"data-order": 1, "uninitialized": 1},
    signs=Signs(orders=("set", "pop", "best", "hash", "id")),
    fixes=("sets-as-dicts",),
)
