"""What matching two programs gave: each pair of names as it is reported, and the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from auditor.matching.errors import ErrorHistory
from auditor.matching.propagation import Difference
from auditor.matching.rounding import DRIFT
from auditor.matching.verdict import Answer
from auditor.results import NamePair, Occurrence, Reason, Relation

#: Points of an error curve.
_CURVE_POINTS = 200
#: Stands for an infinite error, which JSON does not have.
_LARGEST_ERROR = 1e12


@dataclass(frozen=True)
class MatchResult:
    """What matching two programs gave: pairs in order of execution, names left alone, an answer, and why there is none."""

    pairs: list[NamePair] = field(default_factory=list)
    unaligned: list[Reason] = field(default_factory=list)
    answer: Answer = "inconclusive"
    why: Reason | None = None
    """For `inconclusive`."""

    @property
    def origins(self) -> list[NamePair]:
        """The pairs that differ and follow from none."""
        return [pair for pair in self.pairs if not pair.agrees and pair.follows is None]


def name_pair(one: ErrorHistory, difference: Difference | None, cause: Difference | None, layout: bool) -> NamePair:
    """A pair as it is reported; `layout`: its difference is one of how numbers are kept, and none."""
    pair = one.pair
    first = difference.first if difference is not None and not layout else None
    at = first if first is not None else 0
    relation = difference.relation if difference is not None else _agreement(one)
    a, b = int(pair.ka[at]), int(pair.kb[at])
    return NamePair(
        a=pair.a.name,
        b=pair.b.name,
        line_a=int(pair.a.line[a]) or None,
        line_b=int(pair.b.line[b]) or None,
        file_a=pair.a.file or None,
        file_b=pair.b.file or None,
        agrees=first is None,
        first=None if first is None else Occurrence(step=int(pair.a.step[a]), occurrence=pair.occurrence(first)),
        digits=None if layout else _digits(one, first),
        relation=relation,
        update=difference.update if difference is not None and not layout else None,
        follows=cause.pair.a.name if cause is not None else None,
        how=pair.how,
        occurrences=len(pair),
        errors=_curve(one),
    )


def _digits(one: ErrorHistory, first: int | None) -> float | None:
    """Decimal digits of the worst of the occurrences that agree; not more than the coarser dtype holds."""
    if one.random:
        return None
    agree = one.explained & ~one.noise
    if first is not None:
        agree &= one.looked < first
    if not agree.any():
        return None
    worst = float(one.errors[agree].max())
    holds = one.pair.roundoff(int(one.looked[0])) or 2.0**-53
    return round(max(0.0, -math.log10(max(worst, holds))), 2)


def _agreement(one: ErrorHistory) -> Relation:
    """How values agree: the same, transposed, or but for rounding, and where that has taken them apart."""
    if one.pair.turned:
        return Relation(kind="transpose", value=None, meaning=[Reason.of("transpose-held")])
    if one.pair.rearranged:
        return Relation(kind="permutation", value=None, meaning=[Reason.of("other-layout-held")])
    errors = np.where(one.noise, 0.0, one.errors)
    worst = _worst(one)
    if worst == 0:
        return Relation(kind="equal" if not one.errors.any() else "rounding", value=0.0)
    worst = min(worst, _LARGEST_ERROR)
    if one.random:
        return Relation(kind="rounding", value=worst, meaning=[Reason.of("gradient-is-rounding")])
    if worst < DRIFT:
        return Relation(kind="rounding", value=worst)
    at = int(np.argmax(errors >= DRIFT))
    i = int(one.looked[at])
    step, of = int(one.pair.a.step[one.pair.ka[i]]), i + 1
    return Relation(kind="rounding", value=worst, meaning=[Reason.of("drift", step=step, occurrence=of)])


def _worst(one: ErrorHistory) -> float:
    """The largest error of values that are not left by cancellation."""
    return float(np.where(one.noise, 0.0, one.errors).max(initial=0.0))


def _curve(one: ErrorHistory) -> list[tuple[int, float]]:
    """At most 200 points of occurrence and relative error, with the first, the last and the first that rounding does not explain."""
    many = len(one.looked)
    chosen = set(np.unique(np.linspace(0, many - 1, min(many, _CURVE_POINTS - 1), dtype=np.int64)).tolist())
    off = np.flatnonzero(~one.explained)
    if len(off):
        chosen.add(int(off[0]))
    return [(int(one.looked[at]), min(float(one.errors[at]), _LARGEST_ERROR)) for at in sorted(chosen)]
