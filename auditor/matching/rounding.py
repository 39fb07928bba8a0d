"""Which differences rounding explains: judged in order of execution, by how errors enter and grow. See `auditor.matching` for the essay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.matching.masks import size_without
from auditor.matching.values import Aligned, Floats, Integers, Values, elements, relative_error
from auditor.tolerance import unit_roundoff

#: Units of rounding per root of the length of an accumulation.
_UNITS = 4.0
#: How much larger an error may be than any before it, in both programs: a fault jumps by more, rounding is amplified by less at a time.
_AMPLIFIED = 30.0
#: The same where errors have grown fast: so many times as much as from one occurrence of a name to the next so far, and at most.
_AS_BEFORE = 10.0
_AT_MOST = 300.0
#: A value this many units of rounding below what was computed with since it was last assigned is what cancellation left.
_CANCELLED = 8.0
#: Occurrences back over which a value is held against its size: one that has come this near to zero since is what a sum of such has left.
_RECENT = 8
#: Elements that are off by more than this part of them have no digits.
_NO_DIGITS = 0.05
#: A name whose values are off by more units of rounding than this is computed from what has drifted.
_DRIFTED = 4.0
#: How often the values of one name may turn over, and how much larger what it does to others in that step may be than itself.
_TURNS, _AFTER_TURN = 3, 3.0
#: The part of an array that turns over at most, and how much smaller the error must be the next time.
_PART, _BACK = 0.125, 0.2
#: From here on a run has left its counterpart: nothing is told from its values any more.
PARTED = 0.01
#: From here on errors of what is left of two runs have no bound: a gradient that has vanished in one of them is off by any factor.
_LOST = 0.3
#: Occurrences of one name that are looked at: all, or so many of them.
_LOOKED_AT = 3000
#: Updates among the first that are looked at for faults too small to be seen in the values.
_EARLY = 16
_AT_ONCE = 256
#: Values this many times as large as most are looked at more closely.
_FAR = 1e3


@dataclass
class ErrorHistory:
    """What is known of a pair's errors."""

    pair: Aligned
    looked: Integers
    """[l] aligned occurrences that were looked at."""
    errors: Floats
    """[l] their relative errors."""
    explained: NDArray[np.bool_]
    """[l] whether rounding explains them."""
    noise: NDArray[np.bool_]
    """[l] whether both values are what cancellation left."""
    close: Floats
    """[l] relative size of what rounding leaves."""
    roundoff: Floats
    """[l] unit roundoff of the coarsest dtype that either program has used so far."""
    passed: Floats = field(default_factory=lambda: np.zeros(0))
    """[l] the largest explained error of any name so far."""
    sizes: Floats = field(default_factory=lambda: np.zeros(0))
    """[l] the largest value since the occurrence before, in either program."""
    random: bool = False
    """Whether its gradient, or some of that, is what cancellation left: then rounding alone decides how it is updated."""
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
        """Relative size of what rounding leaves of a value at an aligned occurrence."""
        return float(self.close[self._place(i)])

    def close_of_update(self, i: int) -> float:
        """The same of an update: rounding of the value itself is as much larger beside it as the value is."""
        at = self._place(i)
        found = self.pair.updates(i)
        moved = float(np.linalg.norm(found[0])) if found is not None else 0.0
        of_value = self.pair.both(i)[0]
        size = float(np.linalg.norm(of_value))
        return float(self.close[at]) + (4 * float(self.roundoff[at]) * size / moved if moved else 1.0)

    def error_at(self, i: int) -> float:
        """The relative error at an aligned occurrence, or at the nearest that was looked at before it."""
        return float(self.errors[self._place(i)])

    def against_recent(self, at: int) -> float:
        """The size of an error as a part of the largest of the latest values, in the program where that is smaller."""
        pair, recent = self.pair, self.looked[max(0, at - _RECENT) : at + 1]
        a, b = pair.ka[recent], pair.kb[recent]
        if pair.a.nonfinite[a].any() or pair.b.nonfinite[b].any() or pair.size(int(recent[-1])) != elements(pair.b.shape[b[-1]]):
            return math.inf
        ours, theirs = float(pair.a.norm[a[-1]]), float(pair.b.norm[b[-1]])
        difference = float(self.errors[at]) * ours if ours else theirs
        largest = min(float(pair.a.norm[a].max()), float(pair.b.norm[b].max()))
        if largest < _CANCELLED * max(ours, theirs):
            return math.inf  # it is of the size that it had
        return difference / largest

    def _place(self, i: int) -> int:
        return max(0, int(np.searchsorted(self.looked, i, side="right")) - 1)


class _ExecutionContext:
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
        found: Floats = self._coarsest[np.maximum(np.searchsorted(self._at, order, side="right") - 1, 0)]
        return found

    def longest(self, order: Integers) -> Integers:
        found: Integers = self._longest[np.maximum(np.searchsorted(self._at, order, side="right") - 1, 0)]
        return found

    def size_before(self, order: Integers) -> Floats:
        """[n] the largest norm since the occurrence before; at most _AT_ONCE values back."""
        ends = np.searchsorted(self._orders, order)
        starts = np.maximum(np.concatenate([[0], ends[:-1]]), ends - _AT_ONCE)
        return np.array([self._norms[s:e].max() if e > s else 0.0 for s, e in zip(starts.tolist(), ends.tolist(), strict=True)])


def _sizes(series: Sequence[Values]) -> list[Floats]:
    """[n] norms of the values of each name; of those that are far larger than most others, of what is no mask, fill or garbage in them."""
    found = [np.nan_to_num(one.norm) for one in series]
    every = np.concatenate([*found, np.zeros(1)])
    usual = float(np.median(every[every > 0])) if (every > 0).any() else 0.0
    for one, norms in zip(series, found, strict=True):
        for k in np.flatnonzero(norms > _FAR * usual).tolist():
            value = one.value(k) if elements(one.shape[k]) > 1 else None
            # nothing is known of the elements of a sketch: rather a false difference than a fault that is not seen
            norms[k] = size_without(value) if value is not None else 0.0 if elements(one.shape[k]) > 1 else norms[k]
    return found


def judged(pairs: Sequence[Aligned], a: Sequence[Values], b: Sequence[Values]) -> list[ErrorHistory]:
    """Every pair with its errors and whether rounding explains them, judged in the order in which the first program executed them."""
    ours, theirs = _ExecutionContext(a), _ExecutionContext(b)
    found = [_measured(pair, ours, theirs) for pair in pairs]
    events = sorted(
        (int(one.pair.a.order[one.pair.ka[i]]), p, at) for p, one in enumerate(found) for at, i in enumerate(one.looked.tolist())
    )
    lengths = _lengths(pairs)
    passed, growth = 0.0, 1.0
    largest = [0.0] * len(found)
    unsure: dict[str, NDArray[np.bool_] | None] = {}
    turns = [0] * len(found)
    kinked = (0.0, 0)
    for order, p, at in events:
        one = found[p]
        error, close = one.errors[at], one.close[at]
        i = int(one.looked[at])
        one.passed[at] = passed
        exact = one.pair.whole_numbers(i)
        allowed = (0.0 if exact else close) + min(max(_AMPLIFIED, _AS_BEFORE * growth), _AT_MOST) * passed
        absolute = one.against_recent(at) if not exact and error > allowed else error
        if error <= allowed or (passed >= _LOST and (not exact or _varies(one.pair))):
            if not exact and not one.noise[at]:
                passed = max(passed, min(float(error), 1.0))
                if largest[p] > 2 * one.roundoff[at] and math.isfinite(error):
                    growth = max(growth, error / largest[p])
                largest[p] = max(largest[p], float(error))
        elif not exact and absolute <= allowed:
            passed = max(passed, absolute)
        elif error <= kinked[0] and order <= kinked[1]:
            passed = max(passed, min(float(error), float(one.errors[min(at + 1, len(one.errors) - 1)]), PARTED))
        elif passed > 0 and not exact and largest[p] > _DRIFTED * one.roundoff[at] and turns[p] < _TURNS and _turned_over(one, at, allowed):
            turns[p] += 1
            kinked = (_AFTER_TURN * float(error), _end_of_step(one, at))
        elif one.noise[at]:
            unsure.update(dict.fromkeys(_bases(one.pair)))
        elif passed > 0 and _decided_by_rounding(one, i, allowed, unsure):
            one.random = True
        elif not (passed > 0 and _tied(one.pair, i, lengths)):
            one.explained[at] = False
        if not exact and passed > 0 and _is_gradient(one.pair):
            _note_random_elements(one, at, unsure)
        one.close[at] = close + 4 * min(passed, PARTED)
    return found


def _bases(pair: Aligned) -> list[str]:
    """What a pair is, or is the gradient of, in each of the programs."""
    return [f"{which} {one.name.removesuffix('.grad')}" for which, one in (("a", pair.a), ("b", pair.b))]


def _is_gradient(pair: Aligned) -> bool:
    return pair.a.name.endswith(".grad") or pair.b.name.endswith(".grad")


def _note_random_elements(one: ErrorHistory, at: int, unsure: dict[str, NDArray[np.bool_] | None]) -> None:
    """Remembers which elements of a gradient are what cancellation left, and differ.

    Where a loss does not depend on a parameter (the bias of keys in an attention, or in front of a normalization), its gradient is
    rounding's alone, and an optimizer that divides it by its own size, as Adam, moves the parameter by that much at random.
    """
    bases = _bases(one.pair)
    if all(base in unsure and unsure[base] is None for base in bases):
        return
    found = one.pair.values(int(one.looked[at]))
    if found is None or found[0].size < 2 or one.pair.rearranged:
        return
    x, y = (np.abs(value).ravel() for value in found)
    largest = np.maximum(x, y)
    gone = (largest <= _CANCELLED * one.roundoff[at] * one.sizes[at]) & (np.abs(found[0] - found[1]).ravel() > _NO_DIGITS * largest)
    if not gone.any():
        return
    for base in bases:
        known = unsure.get(base)
        if base not in unsure or (known is not None and known.size == gone.size):
            unsure[base] = gone if known is None else known | gone


def _decided_by_rounding(one: ErrorHistory, i: int, allowed: float, unsure: Mapping[str, NDArray[np.bool_] | None]) -> bool:
    """Whether values differ only where their gradient is what cancellation left."""
    for base in _bases(one.pair):
        if base not in unsure:
            continue
        gone = unsure[base]
        if gone is None:
            return True
        found = one.pair.values(i)
        if found is not None and found[0].size == gone.size:
            x, y = (value.ravel()[~gone] for value in found)
            if relative_error(x, y) <= allowed:
                return True
    return False


def _measured(pair: Aligned, ours: _ExecutionContext, theirs: _ExecutionContext) -> ErrorHistory:
    looked = _looked_at(len(pair))
    a, b = pair.a.order[pair.ka[looked]], pair.b.order[pair.kb[looked]]
    errors = np.array([pair.error(i) for i in looked.tolist()])
    own = np.array([pair.roundoff(i) for i in looked.tolist()])
    u = np.maximum(own, np.maximum(ours.coarsest(a), theirs.coarsest(b)))
    length = np.maximum(ours.longest(a), theirs.longest(b)).astype(np.float64)
    size = np.maximum(ours.size_before(a), theirs.size_before(b))
    largest = np.maximum(pair.a.norm[pair.ka[looked]], pair.b.norm[pair.kb[looked]])
    noise = (largest <= _CANCELLED * u * size) & (own > 0)
    everything, close = np.ones(len(looked), np.bool_), _UNITS * np.sqrt(length) * u
    return ErrorHistory(pair, looked, errors, everything, noise, close, u, np.zeros(len(looked)), size)


def _looked_at(many: int) -> Integers:
    """All of few; of many the first ones, some of the rest with the one before each, and the last."""
    if many <= _LOOKED_AT:
        return np.arange(many)
    rest = np.linspace(256, many - 1, _LOOKED_AT // 2, dtype=np.int64)
    return np.unique(np.concatenate([np.arange(256), rest, rest - 1]))


def _lengths(pairs: Iterable[Aligned]) -> Integers:
    """Sizes over which something may have been counted: every dimension of every array."""
    found = {size for pair in pairs for shape in pair.a.shape[:8] for size in (*shape, elements(shape)) if 2 <= size <= 100_000}
    return np.array(sorted(found) or [1], np.int64)


def _turned_over(one: ErrorHistory, at: int, allowed: float) -> bool:
    """Whether a few elements differ this time alone and all others agree: a unit that is on in one program and off in the other.

    Where a function has a kink, as a ReLU at zero, rounding decides on which side of it a value falls, and its derivative jumps: one
    column of a gradient is another for one step. Of what is kept from step to step, such as a weight, that is so of the update.
    """
    if at < 4 or at + 1 >= len(one.looked) or not one.explained[:at].all():
        return False
    i = int(one.looked[at])
    new, old = one.pair.values(i), one.pair.updates(i)
    if new is not None and float(one.errors[at + 1]) <= _BACK * float(one.errors[at]):
        return _in_part(new, allowed)
    later = one.pair.updates(i + 1)
    if new is None or old is None or later is None or not (np.any(old[0]) and np.any(later[0])):
        return False
    error = relative_error(*old)
    again = relative_error(*later)
    return again <= _BACK * error and _in_part(old, max(allowed, 0.05 * error))


def _in_part(both: tuple[Any, Any], allowed: float) -> bool:
    """Whether two arrays differ in an eighth of their elements at most."""
    x, y = both
    if x.size < 8 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return False
    off = np.abs(x - y) > allowed * np.abs(x).max()
    return bool(0 < np.count_nonzero(off) <= _PART * x.size)


def _end_of_step(one: ErrorHistory, at: int) -> int:
    """The position at which a name is assigned again."""
    return int(one.pair.a.order[one.pair.ka[one.looked[at + 1]]])


def _varies(pair: Aligned) -> bool:
    """Whether a name is more than a number that is set once."""
    return not pair.scalar() or len(np.unique(pair.a.total[:64])) > 1


def _tied(pair: Aligned, i: int, lengths: Integers) -> bool:
    """Whether whole numbers, or parts of a count, differ as where two values are the same but for rounding: by one, or one in 100."""
    if pair.size(i) > 1:
        found = pair.values(i)
        if found is None or not pair.whole_numbers(i):
            return False
        off = int(np.count_nonzero(found[0] != found[1]))
        return off <= max(1, found[0].size // 100)
    x, y = float(pair.a.total[pair.ka[i]]), float(pair.b.total[pair.kb[i]])
    if not _varies(pair) or not (math.isfinite(x) and math.isfinite(y)):
        return False
    if pair.whole_numbers(i):
        return abs(x - y) <= max(1, abs(x) / 100)
    if max(abs(x), abs(y)) > 100:
        return False
    part = (x, y) if max(abs(x), abs(y)) <= 1 else (x / 100, y / 100)
    counts = np.outer(lengths, part)
    whole = (np.abs(counts - np.round(counts)) < 1e-6 * lengths[:, None]).all(axis=1)
    return bool((whole & (np.abs(counts[:, 0] - counts[:, 1]) <= np.maximum(1.01, lengths / 100))).any())


def early_updates(one: ErrorHistory) -> Iterable[tuple[int, float]]:
    """Early updates that differ by more than rounding, of a name whose values before were the same to their last digit.

    Gives aligned occurrences with what rounding leaves of the update. A change of a weight by a part in a million of it is lost in what
    rounding may do to a value; but the weight is stored to its last digit, and so the update is known to that.
    """
    for i in range(1, min(_EARLY, len(one.pair))):
        at = int(np.searchsorted(one.looked, i))
        if at >= len(one.looked) or one.looked[at] != i or one.errors[at - 1] > 2 * one.roundoff[at] or one.pair.whole_numbers(i):
            return
        found: tuple[Any, Any] | None = one.pair.updates(i)
        if found is None or not np.any(found[0]):
            continue
        room = one.close_of_update(i) + 12 * float(one.roundoff[at]) * one.pair.norms(i)[0] / float(np.linalg.norm(found[0]))
        if room < 0.05 and relative_error(*found) > room + _AMPLIFIED * one.passed[at]:
            yield i, room
