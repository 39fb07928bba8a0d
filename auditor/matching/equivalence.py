"""Whether two names hold the same numbers: as they are, transposed, with permuted rows or in another layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from auditor.matching.layout import permuted
from auditor.matching.values import Aligned, Array, Values, elements, relative_error

#: Values that one program may have before those that are the same.
EXTRA_FIRST_VALUES = 4
#: Occurrences that must agree.
_COMPARED = 3
#: Elements from which on a value identifies a name.
_MIN_ELEMENTS = 4
#: Fraction of its size by which an updated value moves at most at a time.
SMALL_UPDATE = 0.5
#: Ratio of a step to the next two from which on it is a jump.
_JUMP = 4.0
#: Occurrences that must agree of values with few elements, which could agree by chance.
_COMPARED_SMALL = 8
#: Ways in which two names hold the same numbers, the most certain first.
SAME, RESHAPED, SAME_AT_LAST, SAME_AFTER_PARTS, TRANSPOSED, REORDERED, REARRANGED, BEGINS = range(1, 9)


def fit(x: Values, y: Values) -> bool:
    """Whether the first values of two names have a size in common."""
    return bool({elements(shape) for shape in x.shape[:4]} & {elements(shape) for shape in y.shape[:4]})


def is_turned(x: Values, y: Values) -> bool:
    """Whether the shapes of two matrices say that one is the transpose of the other."""
    ours, theirs = x.shape[0], y.shape[0]
    return len(ours) == len(theirs) == 2 and ours == theirs[::-1] and ours != theirs and min(ours) > 1


def _first(x: Values, y: Values, count: int) -> Aligned:
    many = np.arange(min(count, len(x.order), len(y.order)))
    return Aligned(x, y, "name", many, many, is_turned(x, y))


def begin_alike(x: Values, y: Values) -> bool:
    """Whether the first values of two names are nearly the same."""
    return _first(x, y, 1).error(0) < 1e-2


def related(x: Values, y: Values) -> bool:
    """Whether the first values of two names are close, parallel or of one norm."""
    pair = _first(x, y, 1)
    if pair.error(0) < 0.5:
        return True
    ours, theirs = pair.both(0)
    sizes = pair.norms(0)
    if ours.size < _MIN_ELEMENTS or 0 in sizes:
        return False
    with np.errstate(all="ignore"):
        cosine = abs(np.vdot(ours.ravel(), theirs.ravel())) / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    return bool(cosine > 0.9) or abs(sizes[0] / sizes[1] - 1) < 1e-4


def telling(one: Values) -> bool:
    """Whether the values of a name identify it: they are neither constant nor a few small whole numbers."""
    if elements(one.shape[0]) >= _MIN_ELEMENTS:
        return any(_tells(one, k) for k in dict.fromkeys((0, len(one.order) - 1)))
    return len(np.unique(one.total)) >= 3 and not np.array_equal(one.total, np.round(one.total))


def _tells(one: Values, k: int) -> bool:
    value, size = one.value(k), elements(one.shape[k])
    if value is None:
        return bool(one.norm[k] > 0 and abs(one.total[k] ** 2 / size - one.norm[k] ** 2) > 1e-9 * one.norm[k] ** 2)
    return len(np.unique(value)) >= 2


def _close_enough(x: Values, y: Values) -> float:
    dtypes = {one.dtype[k] for one in (x, y) for k in (0, -1)}
    return 2e-2 if dtypes & {"float16", "bfloat16"} else 1e-9 if dtypes <= {"float64", "complex128", "int64"} else 1e-5


class Sizes:
    """The norms of a name's values, which tell most pairs of names apart at little cost."""

    def __init__(self, one: Values) -> None:
        self._one, self._all = one, np.sort(one.norm)
        self._ends = np.concatenate([one.norm[: EXTRA_FIRST_VALUES + _COMPARED_SMALL], one.norm[-_COMPARED_SMALL:]])

    def meet(self, other: Sizes) -> bool:
        """Whether a first or last value of either has the norm of one of the other's, as the same numbers have."""
        room = 2 * _close_enough(self._one, other._one)
        return self._found(other, room) or other._found(self, room)

    def _found(self, other: Sizes, room: float) -> bool:
        at = np.searchsorted(other._all, self._ends * (1 - room))
        near = other._all[np.minimum(at, len(other._all) - 1)]
        return bool(((at < len(other._all)) & (near <= self._ends * (1 + room))).any())


class Way(NamedTuple):
    """How two names hold the same numbers: a rank of those above, whether one is the transpose, and how many occurrences both have."""

    rank: int
    turned: bool
    common: int


def same_numbers(x: Values, y: Values) -> Way | None:
    """How the values of two names agree up to rounding; None if they do not.

    The first ones, those of one shape before others; the last ones, where one program has more in front of them (zeros to begin with); the
    last of every so many, where one program adds up what the other has at once; transposed; in another order of rows; in another layout,
    as far as sorting can tell; or only what they begin with, of what is then moved by little at a time, as weights are: there one program
    may have some more in front (those that were drawn before others were copied in).
    """
    n, m = len(x.order), len(y.order)
    few = elements(x.shape[0]) < _MIN_ELEMENTS
    count = min(_COMPARED_SMALL if few else _COMPARED, n, m)
    if elements(x.shape[0]) != elements(y.shape[0]):
        return None
    many = np.arange(count)
    close = _close_enough(x, y)

    def same(first: int, second: int, turned: bool = False, rearranged: bool = False, count: int = count, every: int = 1) -> bool:
        each = (every, 1) if n > m else (1, every)
        ka, kb = many[:count] * each[0] + first, many[:count] * each[1] + second
        ours, theirs = x.norm[ka], y.norm[kb]
        if (np.abs(ours - theirs) > 2 * close * np.maximum(ours, theirs)).any():
            return False
        pair = Aligned(x, y, "value", ka, kb, turned, rearranged)
        return all(pair.error(i) <= close for i in range(count))

    shapes = x.shape[0], y.shape[0]
    square = len(shapes[0]) == 2 and shapes[0] == shapes[1][::-1]
    if count < _COMPARED and n != m:
        return _begun_alike(x, y, same, square)  # so few are those of many a name
    if (few or _tells(x, 0)) and same(0, 0):
        return Way(SAME if shapes[0] == shapes[1] else RESHAPED, False, min(n, m))
    if n != m and abs(n - m) <= EXTRA_FIRST_VALUES and same(n - count, m - count) and (few or _varied(x, n - 1)):
        return Way(SAME_AT_LAST, False, min(n, m))
    every = max(n, m) // min(n, m)
    if every > 1 and every * min(n, m) == max(n, m) and (few or _varied(x, (every if n > m else 1) - 1)):
        first = (every - 1, 0) if n > m else (0, every - 1)
        if same(*first, every=every):
            return Way(SAME_AFTER_PARTS, False, min(n, m))
    if n == m > _COMPARED and not few and _varied(x, 1):
        for turned in (False, True) if square else (False,):
            pair = Aligned(x, y, "value", np.arange(n), np.arange(n), turned)
            if same(1, 1, turned) and (same(0, 0, turned, count=1) or written_over(pair) is not None):
                return Way(SAME_AT_LAST, turned, n)
    if square and same(0, 0, True):
        return Way(TRANSPOSED, True, min(n, m))
    if len(shapes[0]) >= 1 and shapes[0] == shapes[1]:
        found = [Aligned(x, y, "value", many, many).values(i) for i in range(count)]
        if all(pair is not None and _rows_permuted(*pair, close) for pair in found):
            return Way(REORDERED, is_turned(x, y), min(n, m))
    if in_another_layout(x, y) and same(0, 0, rearranged=True):
        return Way(REARRANGED, False, min(n, m))
    return _begun_alike(x, y, same, square)


def in_another_layout(x: Values, y: Values) -> bool:
    """Whether the first values have other shapes and the same numbers in another order, as heads or time steps as another dimension."""
    if x.shape[0] == y.shape[0] or elements(x.shape[0]) != elements(y.shape[0]) or not _varied(x, 0):
        return False
    pair, close = _first(x, y, 1), _close_enough(x, y)
    if pair.values(0) is None or pair.turned or pair.error(0) <= close:
        return False
    pair.rearranged = True
    return pair.error(0) <= close


def _begun_alike(x: Values, y: Values, same: Callable[..., bool], square: bool) -> Way | None:
    """Whether two names begin with the same numbers and then move little at a time."""
    if elements(x.shape[0]) < _MIN_ELEMENTS:
        return None
    for more in range(EXTRA_FIRST_VALUES + 1):
        for first, second in dict.fromkeys(((0, more), (more, 0))):
            if first >= len(x.order) or second >= len(y.order) or not (_varied(x, first) and moves_little(x, first)):
                continue
            for turned in (False, True) if square else (False,):
                if same(first, second, turned, count=1) and moves_little(y, second):
                    return Way(BEGINS, turned, min(len(x.order) - first, len(y.order) - second))
    return None


def moves_little(one: Values, start: int) -> bool:
    """Whether the next values each differ from the previous one by a fraction of its size."""
    many = np.arange(start, min(start + _COMPARED + 1, len(one.order)))
    steps = Aligned(one, one, "value", many[:-1], many[1:])
    return all(steps.error(i) < SMALL_UPDATE for i in range(len(steps)))


def written_over(pair: Aligned) -> Literal["a", "b"] | None:
    """The program that overwrote its first value with the other's: its first step is a jump, and the other's is not.

    A jump is more than _JUMP times as large as the next two steps.
    """
    steps = []
    for i in range(1, 4):
        update = pair.updates(i)
        if update is None:
            return None
        steps.append([float(np.linalg.norm(one)) for one in update])
    jumps = [own[0] > _JUMP * max(own[1:]) for own in zip(*steps, strict=True)]
    return None if jumps[0] == jumps[1] else "a" if jumps[0] else "b"


def begins_as(one: Values, other: Values) -> bool:
    """Whether a name begins as a copy of another one of the same program."""
    size = elements(one.shape[0])
    return size >= _MIN_ELEMENTS and any(
        one.digest[0] == other.digest[k] and size == elements(other.shape[k]) for k in range(min(EXTRA_FIRST_VALUES + 1, len(other.order)))
    )


def _varied(one: Values, k: int) -> bool:
    """Whether a value has at least eight distinct elements, or only a sketch of it was kept."""
    value = one.value(k)
    return value is None or len(np.unique(value)) >= min(8, value.size)


def aliases_left_out(series: list[Values]) -> list[Values]:
    """The first of several names that always hold the same values."""
    if len(series) < 2:
        return series
    kept: dict[object, Values] = {}
    for one in sorted(series, key=lambda one: int(one.order[0])):
        kept.setdefault(_all_of(one), one)
    return list(kept.values())


def _all_of(one: Values) -> object:
    """All values of a name, as a key; single numbers without their dtype, because a loss is also a float."""
    if all(elements(shape) == 1 for shape in one.shape) and not one.nonfinite.any():
        return one.total.tobytes()
    return one.digest.tobytes(), tuple(one.dtype), tuple(one.shape)


def _rows_permuted(x: Array, y: Array, close: float) -> bool:
    again = permuted(x, y, 0)
    return again is not None and relative_error(again, y) <= close
