"""The errors of a pair, and how large rounding errors can be after what both programs have used so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auditor.matching.masks import size_without
from auditor.matching.values import Aligned, Floats, Integers, Values, elements
from auditor.tolerance import unit_roundoff

#: Rounding errors per square root of the length of an accumulation.
_ROUNDING_UNITS = 4.0
#: Rounding errors of the largest input up to which a value is left by cancellation.
CANCELLATION_UNITS = 8.0
#: Recent occurrences whose largest size a value near zero is compared with.
_RECENT_OCCURRENCES = 8
#: Largest number of occurrences of one name that are measured, and of values that a size is looked for in; both bound the work.
_MAX_MEASURED = 3000
_SIZE_WINDOW = 256
#: Ratio to the median size from which on the elements of a value are examined; bounds the work.
_UNUSUAL_SIZE = 1e3


@dataclass
class ErrorHistory:
    """The errors of a pair over its occurrences, and which of them rounding explains."""

    pair: Aligned
    looked: Integers
    """[l] aligned occurrences that were measured."""
    errors: Floats
    """[l] their relative errors."""
    explained: NDArray[np.bool_]
    """[l] whether rounding explains them."""
    noise: NDArray[np.bool_]
    """[l] whether both values are left by cancellation."""
    close: Floats
    """[l] relative rounding error."""
    roundoff: Floats
    """[l] unit roundoff of the coarsest dtype that either program has used so far."""
    passed: Floats = field(default_factory=lambda: np.zeros(0))
    """[l] the largest explained error of any name so far."""
    sizes: Floats = field(default_factory=lambda: np.zeros(0))
    """[l] the largest value since the occurrence before, in either program."""
    random: bool = False
    """Whether its gradient, or a part of it, is left by cancellation, so that rounding alone decides how it is updated."""
    by_update: int | None = None
    """The first update that rounding does not explain where the values were all explained."""

    @property
    def first(self) -> int | None:
        """The first aligned occurrence that rounding does not explain."""
        off = np.flatnonzero(~self.explained)
        found = [int(self.looked[off[0]])] if len(off) else []
        if self.by_update is not None:
            found.append(self.by_update)
        return min(found, default=None)

    def close_at(self, i: int) -> float:
        """Relative rounding error of a value at an aligned occurrence."""
        return float(self.close[self._place(i)])

    def close_of_update(self, i: int) -> float:
        """The same of an update; the rounding error of the value counts in proportion to its size."""
        at = self._place(i)
        found = self.pair.updates(i)
        moved = float(np.linalg.norm(found[0])) if found is not None else 0.0
        of_value = self.pair.both(i)[0]
        size = float(np.linalg.norm(of_value))
        return float(self.close[at]) + (4 * float(self.roundoff[at]) * size / moved if moved else 1.0)

    def error_at(self, i: int) -> float:
        """The relative error at an aligned occurrence, or at the nearest measured one before it."""
        return float(self.errors[self._place(i)])

    def against_recent(self, at: int) -> float:
        """The error relative to the largest recent value, in the program where that is smaller."""
        pair, recent = self.pair, self.looked[max(0, at - _RECENT_OCCURRENCES) : at + 1]
        a, b = pair.ka[recent], pair.kb[recent]
        if pair.a.nonfinite[a].any() or pair.b.nonfinite[b].any() or pair.size(int(recent[-1])) != elements(pair.b.shape[b[-1]]):
            return math.inf
        ours, theirs = float(pair.a.norm[a[-1]]), float(pair.b.norm[b[-1]])
        difference = float(self.errors[at]) * ours if ours else theirs
        largest = min(float(pair.a.norm[a].max()), float(pair.b.norm[b].max()))
        if largest < CANCELLATION_UNITS * max(ours, theirs):
            return math.inf  # it is of the size that it had
        return difference / largest

    def _place(self, i: int) -> int:
        return max(0, int(np.searchsorted(self.looked, i, side="right")) - 1)


class ExecutionContext:
    """What one program has used so far, by order of execution: the coarsest dtype, the longest array, and how large values were."""

    def __init__(self, series: Sequence[Values]) -> None:
        known = [one for one in series if len(one.order)]
        firsts = sorted((int(one.order[0]), unit_roundoff(one.dtype[0]), elements(one.shape[0])) for one in known)
        self._at = np.array([order for order, _, _ in firsts] or [0])
        self._coarsest = np.maximum.accumulate(np.array([u for _, u, _ in firsts] or [0.0]))
        self._longest = np.maximum.accumulate(np.array([many for _, _, many in firsts] or [1]))
        orders = np.concatenate([one.order for one in known] or [np.zeros(1, np.int64)])
        norms = np.concatenate(_sizes(known) or [np.zeros(1)])
        sorted_by = np.argsort(orders, kind="stable")
        self._orders, self._norms = orders[sorted_by], norms[sorted_by]

    def coarsest(self, order: Integers) -> Floats:
        """[n] the largest unit roundoff that was used up to each position."""
        found: Floats = self._coarsest[np.maximum(np.searchsorted(self._at, order, side="right") - 1, 0)]
        return found

    def longest(self, order: Integers) -> Integers:
        """[n] the number of elements of the longest array up to each position."""
        found: Integers = self._longest[np.maximum(np.searchsorted(self._at, order, side="right") - 1, 0)]
        return found

    def size_before(self, order: Integers) -> Floats:
        """[n] the largest norm since the occurrence before; at most _SIZE_WINDOW values back."""
        ends = np.searchsorted(self._orders, order)
        starts = np.maximum(np.concatenate([[0], ends[:-1]]), ends - _SIZE_WINDOW)
        return np.array([self._norms[s:e].max() if e > s else 0.0 for s, e in zip(starts.tolist(), ends.tolist(), strict=True)])


def _sizes(series: Sequence[Values]) -> list[Floats]:
    """[n] norms of the values of each name, without masks, fills and uninitialized memory where a norm is unusually large."""
    found = [np.nan_to_num(one.norm) for one in series]
    every = np.concatenate([*found, np.zeros(1)])
    usual = float(np.median(every[every > 0])) if (every > 0).any() else 0.0
    for one, norms in zip(series, found, strict=True):
        for k in np.flatnonzero(norms > _UNUSUAL_SIZE * usual).tolist():
            value = one.value(k) if elements(one.shape[k]) > 1 else None
            # nothing is known of the elements of a sketch: rather a false difference than a fault that is not seen
            norms[k] = size_without(value) if value is not None else 0.0 if elements(one.shape[k]) > 1 else norms[k]
    return found


def measured(pair: Aligned, ours: ExecutionContext, theirs: ExecutionContext) -> ErrorHistory:
    """The errors of a pair, none of which is judged yet."""
    looked = _looked_at(len(pair))
    a, b = pair.a.order[pair.ka[looked]], pair.b.order[pair.kb[looked]]
    errors = np.array([pair.error(i) for i in looked.tolist()])
    own = np.array([pair.roundoff(i) for i in looked.tolist()])
    u = np.maximum(own, np.maximum(ours.coarsest(a), theirs.coarsest(b)))
    length = np.maximum(ours.longest(a), theirs.longest(b)).astype(np.float64)
    size = np.maximum(ours.size_before(a), theirs.size_before(b))
    largest = np.maximum(pair.a.norm[pair.ka[looked]], pair.b.norm[pair.kb[looked]])
    noise = (largest <= CANCELLATION_UNITS * u * size) & (own > 0)
    everything, close = np.ones(len(looked), np.bool_), _ROUNDING_UNITS * np.sqrt(length) * u
    return ErrorHistory(pair, looked, errors, everything, noise, close, u, np.zeros(len(looked)), size)


def _looked_at(many: int) -> Integers:
    """All of few; of many the first ones, some of the rest with the one before each, and the last."""
    if many <= _MAX_MEASURED:
        return np.arange(many)
    rest = np.linspace(256, many - 1, _MAX_MEASURED // 2, dtype=np.int64)
    return np.unique(np.concatenate([np.arange(256), rest, rest - 1]))
