"""How the values of one name differ from those of its counterpart: the simplest relation that leaves nothing but rounding.

A relation is claimed only where its residual is at the level of rounding (`Sight.close`), or, for arrays of some size, so far below the
difference that chance is out of the question (`_SURE`): a single number is a multiple of every other, so its factor must either come
again at other occurrences or be one that means something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from auditor.matching.factor import Around, meaning_of
from auditor.matching.values import Aligned, Array, relative_error
from auditor.results import Relation
from auditor.tolerance import FORMATS, unit_roundoff

#: A residual this far below the difference shows the relation of arrays of at least _SOME elements.
_SURE = 1e-4
_SOME = 8
#: Occurrences that are looked at, from the first that differs on.
_LOOKED_AT = 8
#: What the next factors are said behind.
THEN = "then "
#: Dtypes to which a value may have been rounded on its way.
_NARROW = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Sight:
    """A pair from its first difference on, as values or as updates."""

    pair: Aligned
    start: int
    close: Callable[[int], float]
    """Relative size of what rounding leaves at an occurrence."""
    of: Literal["value", "update"] = "value"
    around: Around = field(default_factory=Around)

    def at(self, i: int) -> tuple[Array, Array] | None:
        """Both values, or updates, at the i-th aligned occurrence."""
        if not 0 <= i < len(self.pair):
            return None
        return self.pair.both(i) if self.of == "value" else self.pair.updates(i)

    def later(self, count: int = _LOOKED_AT) -> Iterator[tuple[int, Array, Array]]:
        """The occurrences from the first difference on, as far as each is known and of the first one's size."""
        size = None
        for i in range(self.start, min(self.start + count, len(self.pair))):
            found = self.at(i)
            if found is None or (size is not None and found[0].size != size):
                return
            size = found[0].size
            yield i, found[0], found[1]


def relation_of(sight: Sight) -> Relation:
    """The relation of a pair at its first difference, as far as the occurrences behind it bear it out."""
    first = sight.at(sight.start)
    if first is None:
        shapes = sight.pair.a.shape[sight.pair.ka[sight.start]], sight.pair.b.shape[sight.pair.kb[sight.start]]
        return Relation(kind="other", value=None, meaning=f"shapes {shapes[0]} and {shapes[1]}" if shapes[0] != shapes[1] else "")
    x, y = first
    if x.size != y.size:
        return Relation(kind="other", value=None, meaning="their sizes differ")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Relation(kind="other", value=None, meaning=_not_finite(x, y))
    with np.errstate(all="ignore"):
        single = sight.pair.size(sight.start) == 1
        found = _lag(sight) or (_growing(sight) if not single else None) or _plain(sight, x, y) or _growing(sight)
        return found or _laid_out(sight, x, y) or _narrowed(sight, x, y) or _other(sight, x, y)


def comes_again(sight: Sight, factor: float) -> bool:
    """Whether single numbers are off by the same factor at three occurrences in a row, the first difference among them."""
    found = [(sight.close(i), _ratio(x, y)) for i, x, y in sight.later(3)]
    room = [max(4 * close, 1e-9) for close, _ in found]
    return len(found) == 3 and all(
        abs(one / factor - 1) <= least < abs(factor - 1) / 5 for (_, one), least in zip(found, room, strict=True)
    )


def _not_finite(x: Array, y: Array) -> str:
    counts = [int(np.count_nonzero(~np.isfinite(one))) for one in (x, y)]
    return f"{counts[0]} elements of the first and {counts[1]} of the second are not finite"


def _left(x: Array, y: Array) -> float:
    """What is left of y when x is taken off, as a part of y."""
    return relative_error(y, x)


def _borne_out(left: float, sight: Sight, i: int, x: Array, y: Array) -> bool:
    """Whether a residual is that of rounding, or vanishes beside the difference that it explains."""
    difference = _left(x, y)
    if left <= sight.close(i) and left < 0.05 * difference:
        return True
    return x.size >= _SOME and left <= _SURE * difference


def _ratio(x: Array, y: Array) -> float:
    """The factor of x that comes nearest to y."""
    x, y = x.ravel(), y.ravel()
    size = float(np.vdot(x, x).real)
    return float(np.vdot(x, y).real) / size if size else math.nan


def _plain(sight: Sight, x: Array, y: Array) -> Relation | None:
    """A sign, a constant factor, a constant offset."""
    factor = _ratio(x, y)
    if not math.isfinite(factor) or factor == 0:
        return _offset(sight, x, y)
    later = [(i, _ratio(one, other), other.size) for i, one, other in sight.later()]
    if sight.pair.size(sight.start) == 1:
        return _single(sight, factor, later) or _offset(sight, x, y)
    left = _left(factor * x, y)
    if not _borne_out(left, sight, sight.start, x, y):
        return _offset(sight, x, y)
    if _constant(x) and _constant(y) and x.size > 1 and sight.pair.values(sight.start) is not None:
        # a constant array is as good as a number: a factor and an offset cannot be told apart
        said = "all elements are alike: as good as an offset"
        return Relation(kind="factor", value=factor, meaning=_joined(meaning_of(factor, sight.around, _precision(left, x, sight)), said))
    if abs(factor + 1) <= max(_precision(left, x, sight), 1e-9):
        return Relation(kind="sign", value=-1.0, meaning="the same with the other sign")
    meaning = meaning_of(factor, sight.around, _precision(left, x, sight))
    return Relation(kind="factor", value=_rounded(factor, _precision(left, x, sight)), meaning=_joined(meaning, _later(factor, later[1:])))


def _rounded(factor: float, precision: float) -> float:
    """The factor without the digits that are rounding's, so that 256.0000019 is said as 256."""
    digits = max(3, min(15, math.floor(-math.log10(max(precision, 1e-16)))))
    return float(f"{factor:.{digits}g}")


def _precision(left: float, x: Array, sight: Sight) -> float:
    """How well the factor is known: its residuals' mean over the elements, and not better than what rounding leaves."""
    return max(left, sight.close(sight.start) / 4, 1e-15)


def _constant(x: Array) -> bool:
    return bool(np.ptp(x.real) <= 1e-12 * np.abs(x).max()) if x.size else True


def _later(factor: float, later: Sequence[tuple[int, float, int]]) -> str:
    """What became of the factor at the next occurrences."""
    if not later:
        return ""
    off = [abs(one / factor - 1) for _, one, _ in later]
    if all(one < 1e-3 for one in off):
        return ""
    if abs(later[0][1] - 1) < 1e-3 * abs(factor - 1):
        return "at this occurrence alone: as of something that changes one step late"
    return f"{THEN}{', '.join(f'{one:.4g}' for _, one, _ in later[:3])}, as what differs comes back into both"


def _single(sight: Sight, factor: float, later: Sequence[tuple[int, float, int]]) -> Relation | None:
    """A factor of single numbers: one that comes again, or that means something."""
    numbers = [x.ravel()[0] for _, x, _ in sight.later()]
    close = max(4 * sight.close(sight.start), 1e-12)
    again = [one for i, one, _ in later[1:] if abs(one / factor - 1) <= max(close, 4 * sight.close(i)) < abs(factor - 1) / 5]
    varied = len({complex(number) for number in numbers}) > 1
    if abs(factor - 1) <= 10 * close:
        return None
    meaning = meaning_of(factor, sight.around, sight.close(sight.start) / 4)
    if varied and len(later) >= 3 and len(again) == len(later) - 1:
        if abs(factor + 1) <= close:
            return Relation(kind="sign", value=-1.0, meaning="the same with the other sign")
        return Relation(kind="factor", value=_rounded(factor, close), meaning=meaning)
    if varied and len(later) >= 3 and (_constant_difference(sight) is not None or _growing(sight) is not None):
        return None
    if abs(factor + 1) <= close:
        return Relation(kind="sign", value=-1.0, meaning="the same with the other sign")
    if meaning:
        return Relation(kind="factor", value=_rounded(factor, close), meaning=_joined(meaning, _later(factor, later[1:])))
    return None


def _constant_difference(sight: Sight) -> float | None:
    """The difference of single numbers, where it is the same at three occurrences or more of numbers that vary."""
    found = [(i, x.real.ravel()[0], y.real.ravel()[0]) for i, x, y in sight.later()]
    if len(found) < 3 or len({x for _, x, _ in found}) < 2:
        return None
    offsets = [y - x for _, x, y in found]
    room = [max(sight.close(i), 1e-12) * max(abs(x), abs(y)) for i, x, y in found]
    alike = all(abs(one - offsets[0]) <= 2 * allowed and abs(one) > 10 * allowed for one, allowed in zip(offsets, room, strict=True))
    return float(offsets[0]) if alike else None


def _offset(sight: Sight, x: Array, y: Array) -> Relation | None:
    if sight.pair.size(sight.start) == 1:
        offset = _constant_difference(sight)
    elif (sight.of == "value" and sight.pair.values(sight.start) is None) or _constant(x):
        return None  # of sketches the elements are not known
    else:
        offset = float(np.mean(y - x).real)
        if not _borne_out(_left(x + offset, y), sight, sight.start, x, y):
            return None
    return None if offset is None else Relation(kind="offset", value=float(f"{offset:.6g}"), meaning="the same is added to all")


def _lag(sight: Sight) -> Relation | None:
    """The value of the occurrence before (1) or behind (-1), from the first difference to where it is no longer so."""
    for lag, said in ((1, "the second is one occurrence late"), (-1, "the second is one occurrence early")):
        held = moved = 0
        for i, x, y in sight.later(16):
            before = sight.at(i - lag)
            if before is None or before[0].shape != x.shape:
                if lag < 0 and i == len(sight.pair) - 1:
                    break
                held = -1
                break
            if _left(before[0], y) > sight.close(i):
                held = -1
                break
            held += 1
            moved += _left(before[0], x) > 10 * sight.close(i)
        # of numbers that change but once, what comes behind the change must agree again
        if held >= 2 and moved and _anything_but_a_repetition(sight):
            return Relation(kind="lag", value=float(lag), meaning=said)
    return None


def _anything_but_a_repetition(sight: Sight) -> bool:
    """Whether the first program's values changed where the second's are late; not, whether either stands still."""
    values = [(x, y) for _, x, y in sight.later(16)]
    before = sight.at(sight.start - 1)
    ours = [x for x, _ in values] + ([before[0]] if before is not None else [])
    return len({one.tobytes() for one in ours}) >= 2


def _growing(sight: Sight) -> Relation | None:
    """Running sums, ratios and differences that grow in step with the occurrences."""
    return _accumulated(sight) or _graded(sight)


def _accumulated(sight: Sight) -> Relation | None:
    """The second as the first's values plus a part of its own one before: y[k] = c x[k] + mu y[k - 1]; 1 for a sum that is never reset.

    c is the factor of the first occurrence of all that is known, where nothing has been added up yet. What differs comes back into both
    programs meanwhile, so the residual need not be rounding's; but it must be far below what is left without the sum.
    """
    start = sight.start
    base = start if start == (1 if sight.of == "update" else 0) else start - 1
    first = sight.at(base)
    if first is None:
        return None
    factor = _ratio(*first)
    if not math.isfinite(factor) or _left(factor * first[0], first[1]) > max(sight.close(base), 1e-3):
        return None
    if base < start:
        factor = 1.0
    shares, lefts, sums, withouts = [], [], [], []
    single = sight.pair.size(start) == 1
    last = first[1]
    for i in range(base + 1, base + 6):
        found = sight.at(i)
        if found is None or found[0].size != first[0].size:
            break
        x, y = found
        plain = y - factor * x
        share = _ratio(last, plain)
        without = _left(factor * x, y)
        if not math.isfinite(share) or without <= 4 * sight.close(i):
            break
        shares.append(share)
        withouts.append(without)
        lefts.append(_left(factor * x + share * last, y))
        sums.append(_left(factor * x + last, y))
        last = y
    if len(shares) < (3 if single else 2):
        return None
    if single:
        share = float(np.median(shares))
        if max(abs(one - share) for one in shares) > 1e-3:
            return None
    elif lefts[0] <= max(4 * sight.close(base + 1), 1e-6) and lefts[0] < 0.05 * withouts[0] and lefts[1] < 0.5 * withouts[1]:
        share = shares[0]  # both were still at the same place when it was made
    elif sums[0] <= 0.3 and all(one <= 0.5 * other for one, other in zip(sums[:3], withouts[:3], strict=True)):
        share = 1.0
    else:
        return None
    if not 0.3 <= share <= 1.2:
        return None
    what = "update" if sight.of == "update" else "value"
    behind = sight.pair.occurrence(base) + 2
    if abs(share - 1) < 0.01:
        said = f"from occurrence {behind} on each {what} of the second has all earlier ones in it: something accumulates and is never reset"
        return Relation(kind="growing", value=1.0, meaning=_joined(said, _times(factor)))
    said = f"each {what} of the second has {share:.2g} of the one before in it: a momentum or moving average that the first does not have"
    return Relation(kind="growing", value=float(f"{share:.3g}"), meaning=_joined(said, _times(factor)))


def _times(factor: float) -> str:
    return "" if abs(factor - 1) < 1e-3 else f"and each is {factor:.4g} times as large"


def _graded(sight: Sight) -> Relation | None:
    """A ratio that grows by the same factor or by the same amount, or a difference that does, from one occurrence to the next."""
    found = list(sight.later(6))
    if len(found) < 4 or sight.of == "update":
        return None
    ratios: list[float] = []
    room: list[float] = []
    for i, x, y in found:
        factor = _ratio(x, y)
        if not math.isfinite(factor) or factor == 0 or _left(factor * x, y) > max(sight.close(i), 1e-12):
            ratios = []
            break
        ratios.append(factor)
        room.append(max(8 * sight.close(i), 1e-10))
    if ratios:
        r = np.array(ratios)
        allowed = max(room)
        quotients, steps = r[1:] / r[:-1], np.diff(r)
        if np.ptp(quotients) <= 2 * allowed and abs(quotients[0] - 1) > 20 * allowed:
            growth = float(f"{np.median(quotients):.6g}")
            return Relation(kind="growing", value=growth, meaning=f"the ratio is {growth:.6g} times as large at each occurrence")
        if np.ptp(steps) <= 2 * allowed * np.abs(r).max() and abs(steps[0]) > 20 * allowed * np.abs(r).max():
            growth = float(f"{np.median(steps):.6g}")
            return Relation(kind="growing", value=growth, meaning=f"the ratio grows by {growth:.6g} at each occurrence")
    differences = [y - x for _, x, y in found]
    base = differences[1] - differences[0]
    size = float(np.linalg.norm(base))
    allowed = max(max(sight.close(i), 1e-12) * float(np.linalg.norm(y)) for i, _, y in found)
    if size <= 20 * allowed:
        return None
    if any(float(np.linalg.norm(two - one - base)) > 4 * allowed for one, two in pairwise(differences)):
        return None
    many = sight.pair.size(sight.start)
    growth = float(f"{(float(base.real.ravel()[0]) if many == 1 else size):.6g}")
    return Relation(kind="growing", value=growth, meaning="the difference grows by the same amount at each occurrence")


def _laid_out(sight: Sight, x: Array, y: Array) -> Relation | None:
    """The same numbers in other places: transposed, rows or columns in another order; also times a factor."""
    whole = sight.pair.values(sight.start) is not None
    if not whole:
        return _turned_sketch(sight)
    for scale in _scales(x, y):
        scaled = scale * x
        said = "" if scale == 1 else f"and each is {scale:.6g} times as large"
        number = None if scale == 1 else float(f"{scale:.6g}")
        if x.ndim == 2 and x.shape[0] == x.shape[1] and _borne_out(_left(scaled.T, y), sight, sight.start, x, y):
            return Relation(kind="transpose", value=number, meaning=_joined("transposed", said))
        for axis, what in ((0, "rows" if x.ndim > 1 else "elements"), (max(x.ndim - 1, 1), "columns")):
            if axis < x.ndim and _told_apart(x, axis):
                again = permuted(scaled, y, axis)
                if again is not None and _borne_out(_left(again, y), sight, sight.start, x, y):
                    return Relation(kind="permutation", value=number, meaning=_joined(f"the same {what} in another order", said))
    return None


def _told_apart(x: Array, axis: int) -> bool:
    """Whether most parts of x along an axis differ: of a few kinds of parts some order is always the other's, as of predicted classes."""
    parts = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    return len(parts) > 1 and 2 * len(np.unique(parts, axis=0)) >= len(parts)


def _turned_sketch(sight: Sight) -> Relation | None:
    a, b = int(sight.pair.ka[sight.start]), int(sight.pair.kb[sight.start])
    shape = sight.pair.a.shape[a]
    if sight.of == "update" or len(shape) != 2 or shape != sight.pair.b.shape[b]:
        return None
    ours, theirs = sight.pair.a.turned[a], sight.pair.b.sums[b]
    if np.isfinite(ours).all() and relative_error(ours, theirs) <= max(sight.close(sight.start), 1e-6):
        return Relation(kind="transpose", value=None, meaning="transposed")
    return None


def _scales(x: Array, y: Array) -> Iterator[float]:
    """1, and the ratio of the two arrays' norms."""
    yield 1.0
    sizes = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    if 0 not in sizes and abs(sizes[1] / sizes[0] - 1) > 1e-6:
        yield sizes[1] / sizes[0]


def permuted(x: Array, y: Array, axis: int) -> Array | None:
    """The parts of x along an axis in the order in which y has them, as far as sorting can tell; None for numbers that cannot be sorted.

    Both are sorted by their product with one fixed vector. Rows between which that cannot tell are alike but for rounding, or the
    caller's comparison fails: this finds a candidate and proves nothing.
    """
    if np.iscomplexobj(x) or np.iscomplexobj(y) or x.ndim == 0 or x.shape != y.shape:
        return None
    ours, theirs = (np.moveaxis(one, axis, 0).reshape(one.shape[axis], -1) for one in (x, y))
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return None
    width = ours.shape[1]
    along = np.sqrt(np.arange(2, width + 2)) % 1.0 + 0.5 if width > 1 else np.ones(1)
    order = np.empty(len(ours), np.int64)
    order[np.argsort(theirs @ along, kind="stable")] = np.argsort(ours @ along, kind="stable")
    return np.take(x, order, axis)


def _narrowed(sight: Sight, x: Array, y: Array) -> Relation | None:
    """The first or second rounded to a narrower dtype."""
    if sight.of == "update" or sight.pair.values(sight.start) is None or np.iscomplexobj(x):
        return None
    for dtype in _NARROW:
        u = unit_roundoff(dtype)
        for coarse, fine in ((y, x), (x, y)):
            size = np.maximum(np.abs(fine), 2.0 ** FORMATS[dtype][1])
            if np.array_equal(_to(coarse, dtype), coarse) and bool((np.abs(coarse - fine) <= 1.001 * u * size).all()):
                which = "second" if coarse is y else "first"
                return Relation(kind="rounding", value=u, meaning=f"the {which} is the other rounded to {dtype}")
    return None


def _to(x: Array, dtype: str) -> Array:
    """An array rounded to nearest even in a dtype, as float64: by its significand, as NumPy has no bfloat16."""
    bits, least = FORMATS[dtype]
    _, exponent = np.frexp(x)
    unit = np.ldexp(1.0, np.maximum(exponent, least + 1) - bits)
    rounded: Array = np.round(x / unit) * unit
    return rounded


def _other(sight: Sight, x: Array, y: Array) -> Relation:
    if sight.pair.size(sight.start) == 1:
        one, other = (number.ravel()[0] for number in (x, y))
        return Relation(kind="other", value=None, meaning=f"{one:.6g} against {other:.6g}")
    if sight.of == "value" and sight.pair.values(sight.start) is None:
        return Relation(kind="other", value=None)
    flat, other = x.ravel(), y.ravel()
    for ours, theirs, which in ((flat, other, "second"), (other, flat, "first")):
        gone = (theirs == 0) & (ours != 0)
        kept = theirs != 0
        if 0.02 * ours.size < np.count_nonzero(gone) and np.count_nonzero(kept) >= 4:
            scale = _ratio(ours[kept], theirs[kept])
            part = int(np.count_nonzero(gone)) / max(1, int(np.count_nonzero(ours)))
            left = _left(scale * ours[kept], theirs[kept])
            if left <= max(sight.close(sight.start), 1e-4):
                said = f"{100 * part:.0f} % of the elements of the {which} are zero and the others {scale:.4g} times as large: dropout"
                return Relation(kind="other", value=None, meaning=said)
    return Relation(kind="other", value=None, meaning=_by_size(sight, flat, other) or _alike_in_part(sight, flat, other))


def _by_size(sight: Sight, x: Array, y: Array) -> str:
    """Whether small elements are changed and large ones are not, as by an epsilon in a denominator."""
    both = (x != 0) & (y != 0)
    if sight.of != "update" or np.count_nonzero(both) < 16:
        return ""
    ratio = y[both] / x[both]
    size = np.abs(x[both]) + np.abs(y[both])
    if not (ratio > 0).all() or not ((ratio < 1.001).all() or (ratio > 0.999).all()):
        return ""
    ranks = np.array([np.argsort(np.argsort(one)) for one in (size, np.abs(np.log(ratio)))], np.float64)
    if float(np.asarray(np.corrcoef(ranks))[0, 1]) < -0.9:
        return "the direction of each element is the same, and the small ones differ most: as by another epsilon in a denominator"
    return ""


def _alike_in_part(sight: Sight, x: Array, y: Array) -> str:
    """How many elements agree, if some do and some do not."""
    same = np.abs(x - y) <= max(sight.close(sight.start), 1e-12) * np.abs(x).max()
    off = x.size - int(np.count_nonzero(same))
    return f"{off} of {x.size} elements differ" if 0 < 2 * off < x.size else ""


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
