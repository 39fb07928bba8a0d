"""How the values of one name differ from those of its counterpart: the simplest relation that leaves nothing but rounding.

A relation is claimed only where its residual is at the level of rounding (`Observation.close`), or, for arrays of some size, so far below
the difference that chance is out of the question (`is_supported`). A single number is a multiple of every other number, so its factor must
either come again at other occurrences or be one that means something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from auditor.matching.factor import Context, meaning_of
from auditor.matching.growth import growing, lagging
from auditor.matching.layout import laid_out
from auditor.matching.observation import MIN_ELEMENTS, Observation, best_factor, is_supported, residual
from auditor.matching.values import Array
from auditor.results import Reason, Relation
from auditor.tolerance import FORMATS, unit_roundoff

#: Dtypes to which a value may have been rounded.
_NARROW = ("float32", "float16", "bfloat16")


def relation_of(observation: Observation) -> Relation:
    """The relation of a pair at its first difference, if the next occurrences support it."""
    first = observation.at(observation.start)
    still = _standing_still(observation)
    if still:
        return Relation(kind="other", value=None, meaning=[still])
    if first is None:
        shapes = (
            observation.pair.a.shape[observation.pair.ka[observation.start]],
            observation.pair.b.shape[observation.pair.kb[observation.start]],
        )
        return Relation(
            kind="other",
            value=None,
            meaning=[Reason.of("shapes-differ", a=str(shapes[0]), b=str(shapes[1]))] if shapes[0] != shapes[1] else [],
        )
    x, y = first
    if x.size != y.size:
        return Relation(kind="other", value=None, meaning=[Reason.of("sizes-differ")])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Relation(kind="other", value=None, meaning=[_not_finite(x, y)])
    with np.errstate(all="ignore"):
        single = observation.pair.size(observation.start) == 1
        found = lagging(observation) or (growing(observation) if not single else None) or _plain(observation, x, y) or growing(observation)
        return found or laid_out(observation, x, y) or _narrowed(observation, x, y) or _other(observation, x, y)


def _not_finite(x: Array, y: Array) -> Reason:
    counts = [int(np.count_nonzero(~np.isfinite(one))) for one in (x, y)]
    return Reason.of("elements-not-finite", a=counts[0], b=counts[1])


def _standing_still(observation: Observation) -> Reason | None:
    """Which of the two is zero from the first difference on while the other is not: it is not updated, or has no gradient."""
    later = [(x, y) for _, x, y in observation.later()]
    if not later or (observation.of == "value" and later[0][0].size == 1):
        return None
    for k, which in ((1, "second"), (0, "first")):
        if not any(np.any(both[k]) for both in later) and all(np.any(both[1 - k]) for both in later):
            return Reason.of("does-not-change" if observation.of == "update" else "is-zero", which=which)
    return None


def _plain(observation: Observation, x: Array, y: Array) -> Relation | None:
    """A sign, a constant factor, a constant offset."""
    factor = best_factor(x, y)
    if not math.isfinite(factor) or factor == 0:
        return _offset(observation, x, y)
    later = [(i, best_factor(one, other), other.size) for i, one, other in observation.later()]
    if observation.pair.size(observation.start) == 1:
        return _single(observation, factor, later) or _offset(observation, x, y)
    left = residual(factor * x, y)
    if not is_supported(left, observation, observation.start, x, y):
        return _offset(observation, x, y)
    if (
        x.size < MIN_ELEMENTS
        and not _steady(factor, later[1:])
        and not meaning_of(factor, observation.around, _precision(left, x, observation))
    ):
        return None  # two elements whose sum is given are always multiples of two others
    if _constant(x) and _constant(y) and x.size > 1 and observation.pair.values(observation.start) is not None:
        # a constant array is as good as a number: a factor and an offset cannot be told apart
        readings = meaning_of(factor, observation.around, _precision(left, x, observation))
        return Relation(kind="factor", value=factor, meaning=[*readings, Reason.of("as-good-as-offset")])
    if abs(factor + 1) <= _precision(left, x, observation):
        return Relation(kind="sign", value=-1.0, meaning=[Reason.of("other-sign")])
    meaning = meaning_of(factor, observation.around, _precision(left, x, observation))
    return Relation(kind="factor", value=_rounded(factor, _precision(left, x, observation)), meaning=[*meaning, *_later(factor, later[1:])])


def _rounded(factor: float, precision: float) -> float:
    """The factor without its rounding errors: 256 for 256.0000019."""
    digits = max(3, min(15, math.floor(-math.log10(max(precision, 1e-16)))))
    return float(f"{factor:.{digits}g}")


def _precision(left: float, x: Array, observation: Observation) -> float:
    """The relative error of a factor: its residual, and at least that of rounding."""
    return max(left, observation.close(observation.start) / 4)


def _constant(x: Array) -> bool:
    return bool(np.ptp(x.real) <= 1e-12 * np.abs(x).max()) if x.size else True


def _later(factor: float, later: Sequence[tuple[int, float, int]]) -> list[Reason]:
    """The factors at the next occurrences."""
    if not later:
        return []
    off = [abs(one / factor - 1) for _, one, _ in later]
    if all(one < 1e-3 for one in off):
        return []
    return [Reason.of("then-other-factors", factors=[float(f"{one:.4g}") for _, one, _ in later[:3]])]


def _steady(factor: float, later: Sequence[tuple[int, float, int]]) -> bool:
    """Whether all next occurrences have the same factor."""
    return all(abs(one / factor - 1) < 1e-3 for _, one, _ in later)


def _single(observation: Observation, factor: float, later: Sequence[tuple[int, float, int]]) -> Relation | None:
    """A factor of single numbers that recurs or has a known meaning."""
    numbers = [x.ravel()[0] for _, x, _ in observation.later()]
    close = 4 * observation.close(observation.start)
    again = [one for i, one, _ in later[1:] if abs(one / factor - 1) <= max(close, 4 * observation.close(i))]
    varied = len({complex(number) for number in numbers}) > 1
    if abs(factor - 1) <= close:
        return None
    meaning = meaning_of(factor, observation.around, observation.close(observation.start) / 4)
    if varied and len(later) >= 3 and len(again) == len(later) - 1:
        if abs(factor + 1) <= close:
            return Relation(kind="sign", value=-1.0, meaning=[Reason.of("other-sign")])
        return Relation(kind="factor", value=_rounded(factor, close), meaning=meaning)
    if varied and (_constant_difference(observation) is not None or growing(observation) is not None):
        return None
    if abs(factor + 1) <= close:
        return Relation(kind="sign", value=-1.0, meaning=[Reason.of("other-sign")])
    if meaning:
        return Relation(kind="factor", value=_rounded(factor, close), meaning=[*meaning, *_later(factor, later[1:])])
    return None


def _constant_difference(observation: Observation) -> float | None:
    """The difference of single numbers that vary, if it is the same at three occurrences or more."""
    found = [(i, x.real.ravel()[0], y.real.ravel()[0]) for i, x, y in observation.later()]
    if len(found) < 3 or len({x for _, x, _ in found}) < 2:
        return None
    offsets = [y - x for _, x, y in found]
    room = [observation.close(i) * max(abs(x), abs(y)) for i, x, y in found]
    same = all(abs(one - offsets[0]) <= 2 * allowed for one, allowed in zip(offsets, room, strict=True))
    return float(offsets[0]) if same else None


def _offset(observation: Observation, x: Array, y: Array) -> Relation | None:
    if observation.pair.size(observation.start) == 1:
        offset = _constant_difference(observation)
    elif (observation.of == "value" and observation.pair.values(observation.start) is None) or _constant(x):
        return None  # of sketches the elements are not known
    else:
        offset = float(np.mean(y - x).real)
        if not is_supported(residual(x + offset, y), observation, observation.start, x, y):
            return None
    return None if offset is None else Relation(kind="offset", value=float(f"{offset:.6g}"), meaning=[Reason.of("added-to-all")])


def _narrowed(observation: Observation, x: Array, y: Array) -> Relation | None:
    """The first or second rounded to a narrower dtype."""
    if observation.of == "update" or observation.pair.values(observation.start) is None or np.iscomplexobj(x):
        return None
    for dtype in _NARROW:
        u = unit_roundoff(dtype)
        for coarse, fine in ((y, x), (x, y)):
            size = np.maximum(np.abs(fine), 2.0 ** FORMATS[dtype][1])
            if np.array_equal(_to(coarse, dtype), coarse) and bool((np.abs(coarse - fine) <= 1.001 * u * size).all()):
                which = "second" if coarse is y else "first"
                return Relation(kind="rounding", value=u, meaning=[Reason.of("rounded-to", which=which, dtype=dtype)])
    return None


def _to(x: Array, dtype: str) -> Array:
    """An array rounded to nearest even in a dtype, as float64: by its significand, as NumPy has no bfloat16."""
    bits, least = FORMATS[dtype]
    _, exponent = np.frexp(x)
    unit = np.ldexp(1.0, np.maximum(exponent, least + 1) - bits)
    rounded: Array = np.round(x / unit) * unit
    return rounded


def _other(observation: Observation, x: Array, y: Array) -> Relation:
    if observation.pair.size(observation.start) == 1:
        one, other = (number.ravel()[0] for number in (x, y))
        return Relation(kind="other", value=None, meaning=[Reason.of("against", a=f"{one:.6g}", b=f"{other:.6g}")])
    if observation.of == "value" and observation.pair.values(observation.start) is None:
        return Relation(kind="other", value=None)
    flat, other = x.ravel(), y.ravel()
    for ours, theirs, which in ((flat, other, "second"), (other, flat, "first")):
        gone = (theirs == 0) & (ours != 0)
        kept = theirs != 0
        if np.any(gone) and np.any(kept):
            scale = best_factor(ours[kept], theirs[kept])
            part = int(np.count_nonzero(gone)) / max(1, int(np.count_nonzero(ours)))
            left = residual(scale * ours[kept], theirs[kept])
            if scale > 1 and left <= observation.close(observation.start):
                return Relation(
                    kind="other", value=None, meaning=[Reason.of("dropout", which=which, part=part, scale=float(f"{scale:.4g}"))]
                )
    return Relation(
        kind="other",
        value=None,
        meaning=_by_size(observation, flat, other) or _alike_in_part(observation, flat, other) or _about(observation.around, flat, other),
    )


def _by_size(observation: Observation, x: Array, y: Array) -> list[Reason]:
    """Whether small elements are changed and large ones are not, as by an epsilon in a denominator."""
    both = (x != 0) & (y != 0)
    if observation.of != "update" or np.count_nonzero(both) < 2:
        return []
    ratio = y[both] / x[both]
    if not (ratio > 0).all():
        return []
    order = np.argsort(np.abs(x[both]) + np.abs(y[both]))
    off = np.abs(np.log(ratio))[order]
    tenth = -(-len(off) // 10)
    if off[-tenth:].mean() < off[:tenth].mean() / 2 and float(np.corrcoef(np.arange(len(off)), np.argsort(np.argsort(off)))[0, 1]) < 0:
        return [Reason.of("small-elements-differ")]
    return []


def _alike_in_part(observation: Observation, x: Array, y: Array) -> list[Reason]:
    """How many elements agree, if some do and some do not."""
    same = np.abs(x - y) <= observation.close(observation.start) * np.abs(x).max()
    off = x.size - int(np.count_nonzero(same))
    return [Reason.of("elements-differ", elements=off, of=x.size)] if 0 < 2 * off < x.size else []


def _about(around: Context, x: Array, y: Array) -> list[Reason]:
    """A factor that explains most of a difference, and not all of it."""
    factor = best_factor(x, y)
    left = residual(factor * x, y) if math.isfinite(factor) and factor else 1.0
    if abs(factor - 1) < 0.1 or left >= 0.1 * residual(x, y):
        return []
    return [Reason.of("about-scaled", factor=float(f"{factor:.3g}")), *(meaning_of(factor, around, left / 4) if left <= 1e-3 else [])]
