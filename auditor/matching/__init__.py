"""Two programs' named values -> which names agree, to how many digits, and how the others differ. Pure: reads values and starts nothing.

**What belongs together.** Names first, then numbers: see `alignment`. What could mean two things is said and left alone, since a wrong pair
is a false alarm. Occurrences belong together one for one, or by step where there are more of them in one program.

**What rounding explains.** Two correct programs in float32 and float64 differ from the first product on, and a training that is chaotic
takes them apart for good after some hundred steps: no fixed threshold tells that from a fault. How the error *enters* does. Rounding enters
small: a result of an accumulation of length L is off by some sqrt(L) u relative to its size (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 3.1 and, for the root, Higham and Mary, 2019), u being the unit roundoff of the coarsest dtype that either program
has used by then and L at most the longest array so far. From there it is amplified: linearly where errors add up, by a constant factor a
step where the training is chaotic; each time by a factor that the problem's conditioning bounds. A fault is there at once: 1e-7 becomes
1e-2 from one name to the next. So values are judged in order of execution, and an error is rounding's if it is at most 4 sqrt(L) u, or at
most 30 times the largest error that was explained before it (up to 300 where errors were seen to grow fast from one occurrence of a name to
the next, as a chaotic training makes them). A value that is u times smaller than what it was made of is what cancellation left, and has no
digits to compare (a mask, a fill and memory that nobody wrote are no such size: see `masks`); whole numbers and parts of counts may differ
by one where two values are nearly equal (an argmax, an accuracy), if anything before was rounded; and where a function has a kink, as a
ReLU at zero, a few elements of a gradient may be others for one step. Errors above 1 % that grew so are drift: the programs agree, and the
step from which on they can no longer be compared is said.

A sum that has come near to zero is held against the size that it had; and a parameter on which the loss does not depend (the bias of
keys in an attention, one in front of a normalization) has a gradient that is rounding's alone, by which Adam moves it at random.

What this cannot see: a fault in float32 that changes values by less than a hundred thousandth at first, and grows from there no
faster than rounding would. Updates show more (see `early_updates`): a weight is known to its last digit, and so is its change.

**What follows from what.** The first name that differs is an origin. Of those behind it, see `propagation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from auditor.matching.alignment import Alignment, alignment
from auditor.matching.evidence import computed, representation_differences
from auditor.matching.factor import Context
from auditor.matching.lists import stem, with_lists_joined
from auditor.matching.observation import Observation, best_factor
from auditor.matching.propagation import Difference, followed
from auditor.matching.relation import THEN, comes_again, relation_of
from auditor.matching.rounding import PARTED, ErrorHistory, early_updates, judged
from auditor.matching.values import Aligned, Values, elements
from auditor.results import NamePair, Occurrence, Relation

__all__ = ["MatchResult", "Values", "matched"]

Answer = Literal["agree", "differ", "could-not-tell"]

#: A value that is moved by less than this part of it at a time is kept, and not made anew.
_MOVED = 0.1
#: How much a factor that comes again may vary in what cancellation left.
_ALIKE = 0.05
#: Points of a curve of errors.
_POINTS = 200
#: What is said of a parameter on which the loss does not depend.
_AT_RANDOM = "it is moved by a gradient that is zero but for rounding, in part or in all"
#: What stands for an error that has no size: infinity is no JSON.
_BEYOND = 1e12


@dataclass(frozen=True)
class MatchResult:
    """What matching two programs gave: pairs in order of execution, names left alone, an answer, and that in a sentence."""

    pairs: list[NamePair] = field(default_factory=list)
    unaligned: list[str] = field(default_factory=list)
    answer: Answer = "could-not-tell"
    sentence: str = ""

    @property
    def origins(self) -> list[NamePair]:
        """The pairs that differ and follow from none."""
        return [pair for pair in self.pairs if not pair.agrees and pair.follows is None]


def matched(a: Sequence[Values], b: Sequence[Values], mapping: Mapping[str, str] | None = None) -> MatchResult:
    """Which named values of two programs agree, and how the others differ; `mapping` has names of the first with those of the second."""
    mapping = mapping or {}
    a, b = with_lists_joined(a, b, mapping.keys()), with_lists_joined(b, a, mapping.values())
    found = alignment(a, b, mapping)
    histories = judged(found.pairs, a, b)
    for one in histories:
        _look_at_updates(one, histories)
        _look_at_noise(one, histories)
    differing = sorted((one for one in histories if one.first is not None), key=lambda one: _position(one.pair, one.first or 0))
    differences = [_difference(one, histories) for one in differing]
    layouts = representation_differences(differing, differences, histories)
    kept = [one for one in differences if id(one.pair) not in layouts]
    causes = {id(one.pair): cause for one, cause in zip(kept, followed(kept), strict=True)}
    by_pair = {id(one.pair): one for one in differences}
    order = {id(one.pair): n for n, one in enumerate(kept)}

    def place(one: ErrorHistory) -> tuple[int, int]:
        differs = order.get(id(one.pair))
        return (_position(one.pair, kept[differs].first), 0) if differs is not None else (_position(one.pair, 0), 1)

    pairs = [
        _said(one, by_pair.get(id(one.pair)), causes.get(id(one.pair)), id(one.pair) in layouts) for one in sorted(histories, key=place)
    ]
    answer, sentence = _answer(pairs, found, (a, b), any(computed(one) for one in histories))
    return MatchResult(pairs, found.alone, answer, sentence)


def _position(pair: Aligned, i: int) -> int:
    return int(pair.a.order[pair.ka[i]])


def _look_at_updates(one: ErrorHistory, histories: Sequence[ErrorHistory]) -> None:
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


def _look_at_noise(one: ErrorHistory, histories: Sequence[ErrorHistory]) -> None:
    """Takes back that values are what cancellation left, where they have a rule: noise has none."""
    off = np.flatnonzero(one.noise & (one.errors > one.close))
    if len(off) < 4 or not one.explained[off].all():
        return
    start = int(one.looked[off[0]])
    said = relation_of(Observation(one.pair, start, one.close_at))
    if said.kind in ("factor", "sign"):  # of gradients that are all multiples of one array, each has some factor
        ratios = [best_factor(*one.pair.both(int(i))) for i in one.looked[off[:4]]]
        if max(abs(ratio / ratios[0] - 1) for ratio in ratios) > _ALIKE:
            return
    if said.kind in ("factor", "sign", "lag", "transpose", "permutation") and one.pair.norms(start)[0] > 0:
        one.explained[off] = False


def _difference(one: ErrorHistory, histories: Sequence[ErrorHistory]) -> Difference:
    first = one.first
    assert first is not None
    pair = one.pair
    around = _around(one, first, histories)
    value = relation_of(Observation(pair, first, one.close_at, "value", around))
    update, error, kept = None, one.error_at(first), False
    fresh = first >= 1 and one.error_at(first - 1) <= one.close_at(first - 1)
    if len(pair) > 1 and not pair.whole_numbers(min(first, len(pair) - 1)):
        start = max(first, 1)
        moved = pair.updates(start)
        if moved is not None and (np.any(moved[0]) or np.any(moved[1])):
            update = relation_of(Observation(pair, start, one.close_of_update, "update", _with_updates(around, start)))
            size = float(np.linalg.norm(moved[0]))
            kept = size < _MOVED * float(np.linalg.norm(pair.both(start)[0]))
            if fresh:
                error = float(np.linalg.norm(moved[1] - moved[0])) / size if size else math.inf
            if update.kind == "rounding" or (update.kind == "other" and not fresh):
                update = None  # it says no more than the value does
    close = one.close_of_update if fresh else one.close_at
    found = Difference(pair, first, _position(pair, first), value, update, close(first), error, fresh, kept)
    if pair.scalar() and found.local.kind in ("factor", "sign") and found.local.value:
        of_update = found.local is update
        observation = Observation(pair, first, one.close_of_update if of_update else one.close_at, "update" if of_update else "value")
        found.once = not comes_again(observation, found.local.value)
    return found


def _with_updates(around: Context, start: int) -> Context:
    return Context(around.sizes, around.numbers, start)


def _around(one: ErrorHistory, first: int, histories: Sequence[ErrorHistory]) -> Context:
    """Sizes of what was assigned before a difference, the nearest first, and the single numbers that there were."""
    position = _position(one.pair, first)
    before = []
    for other in histories:
        at = int(np.searchsorted(other.pair.a.order[other.pair.ka], position, side="left")) - 1
        if at >= 0 or other is one:
            before.append((_position(other.pair, max(at, 0)), max(at, 0), other.pair))
    before.sort(key=lambda found: -found[0])
    sizes: dict[int, str] = {}
    numbers = []
    for _, at, pair in before:
        shape = pair.a.shape[pair.ka[at]]
        name = pair.a.name
        if elements(shape) == 1:
            x, y = float(pair.a.total[pair.ka[at]]), float(pair.b.total[pair.kb[at]])
            constant = len(set(pair.a.total[:8].tolist())) == 1 or "lr" in name
            if pair is not one.pair and constant and 0 < abs(x) < math.inf and 0 < abs(y) < math.inf:
                numbers.append((name, x, y))
            continue
        sizes.setdefault(elements(shape), f"{elements(shape)} elements of `{name}`")
        if len(shape) > 1:
            for axis, size in enumerate(shape):
                what = ("rows" if axis == 0 else "columns" if axis == len(shape) - 1 else "middle dimension") + f" of `{name}`"
                sizes.setdefault(size, f"{size} {what}")
    return Context([(size, what) for size, what in sizes.items() if size > 1][:40], numbers[:20])


def _said(one: ErrorHistory, difference: Difference | None, cause: Difference | None, layout: bool) -> NamePair:
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
        return Relation(kind="transpose", value=None, meaning="one holds the transpose of the other")
    if one.pair.rearranged:
        return Relation(kind="permutation", value=None, meaning="the same numbers in another layout")
    errors = np.where(one.noise, 0.0, one.errors)
    worst = float(errors.max(initial=0.0))
    if worst == 0:
        return Relation(kind="equal" if not one.errors.any() else "rounding", value=0.0)
    worst = min(worst, _BEYOND)
    if one.random:
        return Relation(kind="rounding", value=worst, meaning=_AT_RANDOM)
    if worst < PARTED:
        return Relation(kind="rounding", value=worst)
    at = int(np.argmax(errors >= PARTED))
    i = int(one.looked[at])
    step, of = int(one.pair.a.step[one.pair.ka[i]]), i + 1
    where = f"step {step}, occurrence {of}" if step else f"occurrence {of}"
    return Relation(kind="rounding", value=worst, meaning=f"drift that rounding explains: it reaches 1 % at {where}")


def _curve(one: ErrorHistory) -> list[tuple[int, float]]:
    """At most 200 points of occurrence and relative error, with the first, the last and the first that rounding does not explain."""
    many = len(one.looked)
    chosen = set(np.unique(np.linspace(0, many - 1, min(many, _POINTS - 1), dtype=np.int64)).tolist())
    off = np.flatnonzero(~one.explained)
    if len(off):
        chosen.add(int(off[0]))
    return [(int(one.looked[at]), min(float(one.errors[at]), _BEYOND)) for at in sorted(chosen)]


def _answer(pairs: Sequence[NamePair], found: Alignment, both: Sequence[Sequence[Values]], was_computed: bool) -> tuple[Answer, str]:
    alone = found.alone
    if not pairs:
        which = "neither program gave a name to a number" if not any(both) else "no name of one program has a counterpart in the other"
        return "could-not-tell", f"Could not tell: {which}."
    names = f"{len(pairs)} name{'s' if len(pairs) > 1 else ''}"
    origins = [pair for pair in pairs if not pair.agrees and pair.follows is None]
    if not origins:
        telling_pairs = [pair for pair in pairs if pair.relation is not None and (pair.occurrences > 1 or pair.digits is not None)]
        some = len({(pair.a.partition("[")[0], pair.file_a) for pair in pairs})
        few = 4 * some < min(len({(stem(one), one.scope, one.file) for one in each}) for each in both)
        if not was_computed and (few or not telling_pairs):
            verb = "agrees" if len(pairs) == 1 else "agree"
            return (
                "could-not-tell",
                f"Could not tell: {names} {verb}, but {len(alone)} {'has' if len(alone) == 1 else 'have'} no counterpart.",
            )
        if found.doubtful:
            ours, theirs = found.doubtful[0]
            return (
                "could-not-tell",
                f"Could not tell: {names} agree, and `{ours}` behind them does not: --map '{ours}={theirs}' if it is meant to.",
            )
        digits = min((pair.digits for pair in pairs if pair.digits is not None), default=None)
        drifting = [
            pair
            for pair in pairs
            if pair.relation is not None and pair.relation.kind == "rounding" and pair.relation.meaning not in ("", _AT_RANDOM)
        ]
        if drifting:
            first = drifting[0]
            assert first.relation is not None
            return (
                "agree",
                f"The programs agree: in all {names} rounding explains what differs, with {first.relation.meaning} (`{first.a}`).",
            )
        to = f" to {digits:.1f} digits or more" if digits is not None else ""
        return "agree", f"The programs agree: all {names}{to}, and rounding explains what differs."
    parts = [_in_words(pair) for pair in origins[:4]]
    more = f"; and {len(origins) - 4} more" if len(origins) > 4 else ""
    agree = sum(pair.agrees for pair in pairs)
    return "differ", f"The programs differ: {'; '.join(parts)}{more}. {agree} of {names} agree."


def _in_words(pair: NamePair) -> str:
    first = pair.first
    assert first is not None
    local, relation = pair.update, pair.relation
    if local is not None and local.kind == "other" and not (local.meaning and relation is not None and relation.kind == "other"):
        local = None
    if local is not None and (relation is None or (relation.kind in ("other", "growing", "factor") and pair.digits is not None)):
        what, of = local, "the update of "
    else:
        what, of = relation or Relation(kind="other", value=None), ""
    number = "" if what.value is None else f" {what.value:.6g}"
    if number == " 1":
        number = f" {what.value:.12g}"
    kinds = {
        "factor": f"by the constant factor{number}", "offset": f"by the offset{number}", "sign": "in its sign",
        "transpose": "by a transpose",
        "permutation": "by the order of its parts", "lag": "by being one occurrence late", "growing": "by ever more",
        "rounding": "by rounding", "equal": "not", "other": "without a simple rule",
    }  # fmt: skip
    said = what.meaning.partition(f", {THEN}")[0]
    since = "" if what.kind == "growing" and "occurrence" in said else f" from step {first.step} on"
    return f"{of}`{pair.a}` differs {kinds[what.kind]}{since}{f' ({said})' if said else ''}"
