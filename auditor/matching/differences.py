"""How a pair differs at its first difference: its relation, that of its updates, and what is known around it. Nothing of other programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from auditor.matching.equivalence import SMALL_UPDATE
from auditor.matching.errors import ErrorHistory
from auditor.matching.factor import Context
from auditor.matching.observation import Observation, best_factor
from auditor.matching.propagation import Difference
from auditor.matching.relation import relation_of
from auditor.matching.rounding import early_updates
from auditor.matching.values import elements

#: Relative spread that a repeated factor may have in values left by cancellation.
_FACTOR_SPREAD = 0.05


def find_fault_in_updates(one: ErrorHistory) -> None:
    """Finds a fault that shows in early updates alone: only one with a rule, since nothing else is sure there."""
    if one.random:
        return
    for i, room in early_updates(one):
        if one.first is not None and one.first <= i:
            return
        said = relation_of(Observation(one.pair, i, lambda _, room=room: room, "update"))  # type: ignore[misc]
        if said.kind in ("factor", "sign", "growing", "lag") and said.value and (said.kind != "factor" or abs(said.value - 1) > 2 * room):
            one.by_update = i
            return


def find_rule_in_noise(one: ErrorHistory) -> None:
    """Takes back that values are what cancellation left, where they have a rule: noise has none."""
    off = np.flatnonzero(one.noise & (one.errors > one.close))
    if len(off) < 4 or not one.explained[off].all():
        return
    start = int(one.looked[off[0]])
    said = relation_of(Observation(one.pair, start, one.close_at))
    if said.kind in ("factor", "sign"):  # of gradients that are all multiples of one array, each has some factor
        ratios = [best_factor(*one.pair.both(int(i))) for i in one.looked[off[:4]]]
        if max(abs(ratio / ratios[0] - 1) for ratio in ratios) > _FACTOR_SPREAD:
            return
    if said.kind in ("factor", "sign", "lag", "transpose", "permutation") and one.pair.norms(start)[0] > 0:
        one.explained[off] = False


def difference_of(one: ErrorHistory, histories: Sequence[ErrorHistory]) -> Difference:
    """How a pair differs, at its first difference and by what follows it; `histories` are those of all pairs, for their sizes."""
    first = one.first
    assert first is not None
    pair = one.pair
    around = _context_of(one, first, histories)
    value = relation_of(Observation(pair, first, one.close_at, "value", around))
    update, kept = None, False
    fresh = first >= 1 and one.error_at(first - 1) <= one.close_at(first - 1)
    if len(pair) > 1 and not pair.whole_numbers(min(first, len(pair) - 1)):
        start = max(first, 1)
        moved = pair.updates(start)
        if moved is not None and (np.any(moved[0]) or np.any(moved[1])):
            update = relation_of(Observation(pair, start, one.close_of_update, "update", replace(around, updates=start)))
            kept = float(np.linalg.norm(moved[0])) < SMALL_UPDATE * float(np.linalg.norm(pair.both(start)[0]))
            if update.kind == "rounding" or (update.kind == "other" and not fresh):
                update = None  # it says no more than the value does
    return Difference(pair, first, pair.position(first), value, update, fresh, kept)


def _context_of(one: ErrorHistory, first: int, histories: Sequence[ErrorHistory]) -> Context:
    """Sizes of what was assigned before a difference, the nearest first, and the single numbers that there were."""
    position = one.pair.position(first)
    before = []
    for other in histories:
        at = int(np.searchsorted(other.pair.a.order[other.pair.ka], position, side="left")) - 1
        if at >= 0 or other is one:
            before.append((other.pair.position(max(at, 0)), max(at, 0), other.pair))
    before.sort(key=lambda found: -found[0])
    sizes: dict[int, str] = {}
    numbers = []
    for _, at, pair in before:
        shape = pair.a.shape[pair.ka[at]]
        name = pair.a.name
        if elements(shape) == 1:
            x, y = float(pair.a.total[pair.ka[at]]), float(pair.b.total[pair.kb[at]])
            constant = pair.a.total.min() == pair.a.total.max() or "lr" in name
            if pair is not one.pair and constant and 0 < abs(x) < math.inf and 0 < abs(y) < math.inf:
                numbers.append((name, x, y))
            continue
        sizes.setdefault(elements(shape), f"{elements(shape)} elements of `{name}`")
        if len(shape) > 1:
            for axis, size in enumerate(shape):
                what = ("rows" if axis == 0 else "columns" if axis == len(shape) - 1 else "middle dimension") + f" of `{name}`"
                sizes.setdefault(size, f"{size} {what}")
    return Context([(size, what) for size, what in sizes.items() if size > 1], numbers)
