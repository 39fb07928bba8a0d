"""The factors of one audit: which of them can be pinned or varied here, in which order they are suspected, and the plans with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from auditor.factors import Factor, plan_with
from auditor.plan import Plan
from auditor.results import Reason


@dataclass
class FactorChoice:
    """`all` factors; `held` are those that the user wants pinned in all runs, and `left_out` those that take no part, and why."""

    all: Mapping[str, Factor]
    held: tuple[str, ...] = ()
    left_out: dict[str, Reason] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Factor:
        """A factor by its name."""
        return self.all[name]

    @cached_property
    def available(self) -> list[str]:
        """Factors that can be held still or varied, in the order in which they are suspected; why others cannot is in `left_out`."""
        for name, factor in self.all.items():
            missing = factor.unavailable()
            if missing is not None and name not in self.held:
                self.left_out[name] = Reason.of("unavailable", why=missing)
        return [name for name in self.in_order if name not in self.left_out and name not in self.held]

    @cached_property
    def in_order(self) -> list[str]:
        """All factors, in the order in which they are suspected."""
        return sorted(self.all, key=lambda name: (self.all[name].order, name))

    @cached_property
    def common(self) -> frozenset[str]:
        """Factors that two runs on one machine have in common anyway."""
        return frozenset(name for name, factor in self.all.items() if factor.common)

    def plan_with(self, plan: Plan, pinned: Sequence[str], varied: Sequence[str]) -> Plan:
        """The plan with these factors pinned and varied, beside those that are held; the readings of all others are noted."""
        pinned = [*self.held, *pinned]
        watched = [name for name in self.all if name not in pinned and name not in varied]
        return plan_with(plan, self.all, pinned, varied, watched)
