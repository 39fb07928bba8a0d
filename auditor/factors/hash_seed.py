"""`hash-seed`: the key of Python's string hash, which orders sets of strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.factors import Factor, Signs

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    return plan.with_environment(PYTHONHASHSEED="0")


def _vary(plan: Plan) -> Plan:
    return plan.with_environment(PYTHONHASHSEED="20011")


FACTOR = Factor(
    name="hash-seed",
    because="Python hashes strings differently",
    why="Python hashes strings with a different key in each process, so a set of strings has a different order in each run",
    remedy="use sorted(...) where the script iterates over a set or computes with hash()",
    pin=_pin,
    vary=_vary,
    order=4,
    kinds={"data-order": 0, "structure": 0, "argument": 0},
    signs=Signs(orders=("set", "pop", "best", "hash")),
    fixes=("sort-sets",),
)
