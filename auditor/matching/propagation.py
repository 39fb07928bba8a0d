"""Which differences propagate from an earlier one, and which are origins, by their values and their order alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auditor.matching.values import Aligned
from auditor.results import Relation

#: Powers in which a factor recurs: by a division, a square, a root, a cube.
_POWERS = (1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0)
#: Relative error of a factor that recurs in another one.
_FACTOR_TOLERANCE = 2e-3
#: Latest factors that are combined in pairs; bounds the work.
_COMBINED = 8


@dataclass
class Difference:
    """A pair that differs: where first, and how."""

    pair: Aligned
    first: int
    """Aligned occurrence."""
    order: int
    """Position of it in the first program."""
    relation: Relation
    update: Relation | None
    fresh: bool
    """Whether the update is what differs: the value before it was the same."""
    kept: bool = False
    """Whether it is a value that moves little at a time, as a weight does."""

    @property
    def local(self) -> Relation:
        """The relation of the update if the value before was the same or the updates have a relation of their own; else of the value."""
        update = self.update
        if update is None or not (self.fresh or update.kind in ("growing", "lag")):
            return self.relation
        return update if self.kept or update.kind != "other" or self.relation.kind == "other" else self.relation

    def ratios(self, order: int) -> list[float]:
        """The second's value over the first's: of a clean factor, and of a single number at the latest occurrence before a position."""
        found = [said.value for said in (self.relation, self.update) if said is not None and said.kind in ("factor", "sign") and said.value]
        if found or not self.pair.scalar():
            return found
        at = int(np.searchsorted(self.pair.a.order[self.pair.ka], order)) - 1
        if at < 0:
            return []
        x, y = float(self.pair.a.total[self.pair.ka[at]]), float(self.pair.b.total[self.pair.kb[at]])
        return [y / x] if x and y and math.isfinite(x) and math.isfinite(y) else []


def followed(differences: Sequence[Difference]) -> list[Difference | None]:
    """For each difference, in order of execution, the earlier one that it propagates; None for an origin.

    A difference with a rule of its own (a factor, a sum that is never reset, a lag) follows from an earlier one only if that has the
    same rule, or a factor of which its own is made; one without a rule can follow from whatever was different before it.
    """
    found: list[Difference | None] = []
    roots: list[Difference] = []
    for n, one in enumerate(differences):
        cause = _cause(one, roots, differences[:n], found)
        found.append(cause)
        if cause is None:
            roots.append(one)
    return found


def _cause(
    one: Difference, roots: Sequence[Difference], earlier: Sequence[Difference], causes: Sequence[Difference | None]
) -> Difference | None:
    before = [root for root in roots if root.order < one.order]
    if not before:
        return None
    local = one.local
    if local.kind in ("growing", "lag"):
        same = [root for root in before if root.local.kind == local.kind]
        if same:
            return same[-1]
        if local.kind == "growing" and one.relation.kind == local.kind and not one.fresh and one.update is None:
            return _graded_by(one, before)
        return None if local.kind == "growing" else _any(one, before)
    if local.kind in ("factor", "sign") and local.value is not None:
        return _scaled_by(one, local.value, earlier, causes) or (_any(one, before) if one.pair.scalar() else None)
    if local.kind in ("transpose", "permutation", "offset"):
        same = [root for root in before if root.local.kind == local.kind]
        # an order that was drawn anew is another one because the streams have parted
        drawn = local.kind == "permutation" and one.pair.whole_numbers(one.first)
        return same[-1] if same else (_any(one, before) if local.kind == "offset" or drawn else None)
    return _any(one, before)


def _graded_by(one: Difference, before: Sequence[Difference]) -> Difference | None:
    """The origin of a ratio or difference that grows: updates with a constant factor make a value drift evenly."""
    scaled = [root for root in before if root.fresh]
    return scaled[-1] if scaled else None


def _any(one: Difference, before: Sequence[Difference]) -> Difference | None:
    """The last earlier origin that a difference without a relation can propagate.

    A single number that varies from one occurrence to the next and is off by a constant factor is a result, such as a loss. In the same
    step nothing without a rule follows from it.
    """
    can = [root for root in before if not (_a_result(root) and not _step_after(root, one))]
    return can[-1] if can else None


def _a_result(root: Difference) -> bool:
    pair = root.pair
    return root.relation.kind == "factor" and pair.scalar() and len(pair) > 1 and bool(pair.a.total.min() < pair.a.total.max())


def _step_after(root: Difference, one: Difference) -> bool:
    """Whether the root had been assigned again before the other differed."""
    nxt = root.first + 1
    return nxt < len(root.pair) and int(root.pair.a.order[root.pair.ka[nxt]]) < one.order


def _scaled_by(one: Difference, factor: float, earlier: Sequence[Difference], causes: Sequence[Difference | None]) -> Difference | None:
    """The origin of an earlier difference whose ratio, alone or combined with another one, gives a factor."""
    known = [
        (ratio, cause or other)
        for other, cause in zip(earlier, causes, strict=True)
        if other.order < one.order
        for ratio in other.ratios(one.order)
    ]

    def fits(made: float) -> bool:
        return made != 0 and abs(factor / made - 1) <= _FACTOR_TOLERANCE

    for ratio, root in reversed(known):
        if any(fits(math.copysign(abs(ratio) ** power, ratio)) for power in _POWERS):
            return root
    for (one_ratio, root), (other_ratio, _) in itertools.combinations(known[-_COMBINED:], 2):
        if (
            abs(one_ratio - 1) > _FACTOR_TOLERANCE
            and abs(other_ratio - 1) > _FACTOR_TOLERANCE
            and (fits(one_ratio * other_ratio) or fits(one_ratio / other_ratio))
        ):
            return root
    return None
