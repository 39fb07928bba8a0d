"""Kinks, ties and counts: where a function jumps, rounding decides on which side a value falls."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from auditor.matching.errors import ErrorHistory
from auditor.matching.values import Aligned, Array, Integers, elements, relative_error

#: Relative error of a count that is computed from a fraction.
_WHOLE = 1e-6
#: Occurrences that must agree before one in which an element crosses a jump.
_MIN_BEFORE = 4
#: Largest fraction of an array that crosses a jump, and the factor by which the error must fall at the next occurrence.
_MAX_PART, _RECOVERY = 0.125, 0.2


def is_turned_over(one: ErrorHistory, at: int, allowed: float) -> bool:
    """Whether few elements differ, at this occurrence alone: a unit that is active in one program only.

    Where a function has a kink, as a ReLU at zero, rounding decides on which side of it a value falls, and its derivative jumps: one
    column of a gradient is another for one step. Of what is kept from step to step, such as a weight, that is so of the update.
    """
    if at < _MIN_BEFORE or at + 1 >= len(one.looked) or not one.explained[:at].all():
        return False
    i = int(one.looked[at])
    new, old = one.pair.values(i), one.pair.updates(i)
    if new is not None and float(one.errors[at + 1]) <= _RECOVERY * float(one.errors[at]):
        return _in_part(new, allowed)
    later = one.pair.updates(i + 1)
    if new is None or old is None or later is None or not (np.any(old[0]) and np.any(later[0])):
        return False
    error = relative_error(*old)
    again = relative_error(*later)
    return again <= _RECOVERY * error and _in_part(old, allowed)


def _in_part(both: tuple[Array, Array], allowed: float) -> bool:
    """Whether two arrays differ in an eighth of their elements at most."""
    x, y = both
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return False
    off = np.abs(x - y) > allowed * np.abs(x).max()
    return bool(0 < np.count_nonzero(off) <= _MAX_PART * x.size)


def end_of_step(one: ErrorHistory, at: int) -> int:
    """The position at which a name is assigned again."""
    return int(one.pair.a.order[one.pair.ka[one.looked[at + 1]]])


def is_tied(pair: Aligned, i: int, lengths: Integers) -> bool:
    """Whether whole numbers, or fractions of a count, differ as a tie explains: by one, or by one in 100."""
    if pair.size(i) > 1:
        found = pair.values(i)
        if found is None or not pair.whole_numbers(i):
            return False
        off = int(np.count_nonzero(found[0] != found[1]))
        return off <= max(1, found[0].size // 100)
    x, y = float(pair.a.total[pair.ka[i]]), float(pair.b.total[pair.kb[i]])
    if not varies(pair) or not (math.isfinite(x) and math.isfinite(y)):
        return False
    if pair.whole_numbers(i):
        return abs(x - y) <= max(1, abs(x) / 100)
    if max(abs(x), abs(y)) > 100:
        return False
    part = (x, y) if max(abs(x), abs(y)) <= 1 else (x / 100, y / 100)
    counts = np.outer(lengths, part)
    whole = (np.abs(counts - np.round(counts)) <= _WHOLE * np.round(counts)).all(axis=1)  # a small rate is no count of nothing
    return bool((whole & (np.abs(counts[:, 0] - counts[:, 1]) <= np.maximum(1.01, lengths / 100))).any())


def varies(pair: Aligned) -> bool:
    """Whether a name is an array, or a number that changes."""
    return not pair.scalar() or len(np.unique(pair.a.total[:64])) > 1


def lengths_of(pairs: Iterable[Aligned]) -> Integers:
    """Sizes that a count can be over: every dimension of every array."""
    found = {size for pair in pairs for shape in pair.a.shape[:8] for size in (*shape, elements(shape)) if 2 <= size <= 100_000}
    return np.array(sorted(found) or [1], np.int64)
