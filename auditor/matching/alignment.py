"""Aligns the names of two programs and their occurrences. Never guesses: an ambiguous name stays unaligned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from auditor.matching.correspondence import borrow, occurrences, overwritten_left_out
from auditor.matching.equivalence import (
    BEGINS,
    Sizes,
    Way,
    aliases_left_out,
    begin_alike,
    begins_as,
    fit,
    in_another_layout,
    is_turned,
    related,
    same_numbers,
    telling,
)
from auditor.matching.lists import stem
from auditor.matching.names import (
    ending_of,
    meant_by,
    one_ends_the_other,
    owner_of,
    parameter_of_gradient,
    path_of,
    says_nothing,
    within_module,
)
from auditor.matching.values import Aligned, Values, floating, short_name
from auditor.results import Parameter, Reason

#: A name with at least this many assignments is updated throughout the program.
_MIN_ASSIGNMENTS = 4

_Fits = Callable[[Values, Values], bool]


@dataclass
class Alignment:
    """Aligned names in order of the first program's execution, and why each other one was not."""

    pairs: list[Aligned] = field(default_factory=list)
    alone: list[Reason] = field(default_factory=list)
    doubtful: list[tuple[str, str]] = field(default_factory=list)
    """Possible counterparts that both programs compute after everything aligned, and whose values have nothing in common."""


def alignment(a: Sequence[Values], b: Sequence[Values], mapping: Mapping[str, str]) -> Alignment:
    """The aligned names of two programs: by the mapping first, then by name, then by value."""
    made = _Pairing([one for one in a if len(one.order)], [one for one in b if len(one.order)])
    for ours, theirs in mapping.items():
        made.take_mapped(ours, theirs)
    made.take_names(_live_on, sure=True)
    made.take_values()
    made.take_siblings()
    made.take_names(fit)
    found = [Aligned(x, y, how, *occurrences(x, y, turned), turned) for x, y, how, turned in made.taken]  # type: ignore[arg-type]
    for pair in found:
        pair.rearranged = id(pair.a) in made.rearranged
    borrow(found)
    for pair in found:
        known = (pair.a.digest[pair.ka] != 0) & (pair.b.digest[pair.kb] != 0)  # 0: past the budget, nothing was kept
        pair.ka, pair.kb = pair.ka[known], pair.kb[known]
        overwritten_left_out(pair)
    found = [pair for pair in found if len(pair)]
    found.sort(key=lambda pair: int(pair.a.order[pair.ka[0]]))
    return Alignment(found, made.complaints + list(made.left_alone()), list(made.doubtful(found)))


class _Pairing:
    """The pairs so far, and the names that are left in each program."""

    def __init__(self, a: Sequence[Values], b: Sequence[Values]) -> None:
        self.a, self.b = list(a), list(b)
        self.taken: list[tuple[Values, Values, str, bool]] = []
        self.complaints: list[Reason] = []
        self.rearranged: set[int] = set()
        self._could: dict[int, list[str]] = {}

    def _take(self, x: Values, y: Values, how: str, turned: bool) -> None:
        self.taken.append((x, y, how, turned))
        if not turned and in_another_layout(x, y):
            self.rearranged.add(id(x))
        self.a = [one for one in self.a if one is not x]
        self.b = [one for one in self.b if one is not y]

    def take_mapped(self, ours: str, theirs: str) -> None:
        """Pair two names that the user maps, or report why that is impossible."""
        found = [meant_by(ours, self.a), meant_by(theirs, self.b)]
        for name, which, many in zip((ours, theirs), ("first", "second"), found, strict=True):
            if len(many) != 1:
                scopes = list(dict.fromkeys(x.scope for x in many))
                self.complaints.append(
                    Reason.of("mapping-unknown", a=ours, b=theirs, which=which, name=name, values=len(many), scopes=[*scopes])
                )
                return
        x, y = found[0][0], found[1][0]
        self._take(x, y, "map", is_turned(x, y))

    def take_names(self, fits: _Fits, *, sure: bool = False) -> None:
        """Pair names that are the same or mean the same; if `sure`, names of different functions only if their values agree.

        A name such as `x` means the batch in one function and what a layer has made of it in another, where its values can be much alike,
        and `loss` that of an evaluation: what holds the same numbers under another name goes before.
        """
        can_be = _hold_the_same if sure else _could_mean_the_same
        self._take_unique(lambda one: (one.name, one.scope, one.kind), fits)
        self._take_unique(lambda one: (one.name, one.scope), fits)
        self._take_unique(path_of, fits, can_be)
        self._take_gradients(fits)
        self._take_endings(fits, can_be)
        self._take_unique(within_module, fits, can_be)
        self._take_unique(lambda one: (ending_of(one), one.kind), fits, can_be)

    def _take_unique(self, key: Callable[[Values], object], fits: _Fits, can_be: _Fits | None = None) -> None:
        """Pair the names that alone in their program have a key, if they can be the same."""
        ours, theirs = _grouped(self.a, key), _grouped(self.b, key)
        for found, xs in ours.items():
            ys = theirs.get(found, [])
            if len(xs) * len(ys) > 1:
                xs, ys = self._alike_in_number(aliases_left_out(xs), aliases_left_out(ys))
            if len(xs) == len(ys) == 1 and fits(xs[0], ys[0]) and (can_be is None or can_be(xs[0], ys[0])):
                self._take(xs[0], ys[0], "name", is_turned(xs[0], ys[0]))

    @staticmethod
    def _alike_in_number(xs: list[Values], ys: list[Values]) -> tuple[list[Values], list[Values]]:
        """Of several names with one key, the only two with the same number of assignments and related first values."""
        if len(xs) * len(ys) <= 1:
            return xs, ys
        both = [(x, y) for x in xs for y in ys if len(x.order) == len(y.order) and fit(x, y) and related(x, y)]
        return ([both[0][0]], [both[0][1]]) if len(both) == 1 else (xs, ys)

    def _take_gradients(self, fits: _Fits) -> None:
        """Pair `b1.grad` with `db1`, `grad_b1` or `b1_grad`, if `b1` itself is paired."""
        known = {short_name(x) for x, _, _, _ in self.taken}

        ours = {base: many for base, many in _grouped(self.a, parameter_of_gradient).items() if base in known}
        theirs = _grouped(self.b, parameter_of_gradient)
        for base, xs in ours.items():
            ys = theirs.get(base, [])
            if len(xs) == len(ys) == 1 and fits(xs[0], ys[0]):
                self._take(xs[0], ys[0], "name", is_turned(xs[0], ys[0]))

    def take_siblings(self) -> None:
        """Pair parameters of paired owners: `G.0.bias` and `net.first.bias`, if their weights are paired."""
        owners: dict[str, set[str]] = {}
        for x, y, _, _ in self.taken:
            (ours, which), (theirs, other) = owner_of(x), owner_of(y)
            if ours and theirs and which == other:
                owners.setdefault(ours, set()).add(theirs)
        held = Counter(other for others in owners.values() for other in others)
        for x in list(self.a):
            owner, which = owner_of(x)
            others = owners.get(owner, set())
            ys = [y for y in self.b if owner_of(y)[0] in others and owner_of(y)[1] == which and fit(x, y)]
            if len(others) == len(ys) == 1 and held[owner_of(ys[0])[0]] == 1 and not _once_and_often(x, ys[0]):
                self._take(x, ys[0], "name", is_turned(x, ys[0]))
        gradients = {(one.name, one.scope): one for one in self.b if one.kind == "gradient"}
        for x, y, _, _ in list(self.taken):
            gradient = gradients.get((y.name + ".grad", y.scope))
            for one in [one for one in self.a if (one.name, one.scope) == (x.name + ".grad", x.scope)]:
                if gradient is not None and fit(one, gradient) and any(gradient is other for other in self.b):
                    self._take(one, gradient, "name", is_turned(one, gradient))

    def _take_endings(self, fits: _Fits, can_be: _Fits) -> None:
        """Pair paths of which one ends with the other: `fc.weight` and `self.model.fc.weight`."""
        for x in list(self.a):
            ys = [y for y in self.b if one_ends_the_other(x, y) and fits(x, y) and can_be(x, y)]
            if len(ys) == 1 and sum(one_ends_the_other(z, ys[0]) and fit(z, ys[0]) for z in self.a) == 1:
                self._take(x, ys[0], "name", is_turned(x, ys[0]))

    def take_values(self) -> None:
        """Pair names that hold the same numbers, if only one name of each program does."""
        ours = aliases_left_out([x for x in self.a if telling(x)])
        theirs = aliases_left_out([y for y in self.b if telling(y)])
        sizes = [[Sizes(one) for one in some] for some in (ours, theirs)]
        ways = {
            (i, j): way
            for i, x in enumerate(ours)
            for j, y in enumerate(theirs)
            if sizes[0][i].meet(sizes[1][j]) and (way := same_numbers(x, y)) is not None
        }
        for rank in sorted({way.rank for way in ways.values()}):
            taken = [one for x, y, _, _ in self.taken for one in (x, y)]
            gone = {id(one) for one in taken}
            here = [(i, j) for (i, j), way in ways.items() if way.rank == rank and id(ours[i]) not in gone and id(theirs[j]) not in gone]
            here = [pair for pair in here if not _outdone(pair, here, ways)]
            if rank == BEGINS:  # the best so far, or an average, begins as a copy of what has its counterpart already
                here = [(i, j) for i, j in here if not any(begins_as(one, other) for one in (ours[i], theirs[j]) for other in taken)]
            ones, others = Counter(i for i, _ in here), Counter(j for _, j in here)
            for i, j in here:
                x, y = ours[i], theirs[j]
                if ones[i] == others[j] == 1:
                    self._take(x, y, "value", ways[i, j].turned)
                else:
                    self._could.setdefault(id(x), []).append(y.name)
                    self._could.setdefault(id(y), []).append(x.name)

    def doubtful(self, pairs: Sequence[Aligned]) -> Iterator[tuple[str, str]]:
        """Results with one name in both programs whose values do not show whether they are counterparts."""
        ends = [max((int(one.order[-1]) for one in each), default=-1) for each in ((p.a for p in pairs), (p.b for p in pairs))]
        last = [
            _grouped((one for one in each if int(one.order[-1]) > end and floating(one.dtype[0]) and telling(one)), short_name)
            for each, end in zip((self.a, self.b), ends, strict=True)
        ]
        for name, xs in last[0].items():
            ys = last[1].get(name, [])
            if len(xs) == len(ys) == 1 and xs[0].shape[0] == ys[0].shape[0]:
                yield xs[0].name, ys[0].name

    def left_alone(self) -> Iterator[Reason]:
        """Each name without a counterpart, and why it has none, in order of execution."""
        for which, left, others in (("first", self.a, self.b), ("second", self.b, self.a)):
            found: dict[tuple[str, str, str, tuple[str, ...]], list[Values]] = {}
            for one in sorted(left, key=lambda one: int(one.order[0])):
                could = self._could.get(id(one), [])
                same = [other for other in others if other.name == one.name]
                if telling(one) and any(_held_the_same((x, y)[which == "second"], one) for x, y, _, _ in self.taken):
                    continue  # another name of what has a counterpart
                why: tuple[str, ...] = ()
                if could:
                    why = ("numbers", *could)
                elif same and not any(fit(one, other) for other in same):
                    why = ("size", _sizes(one), _sizes(same[0]))
                found.setdefault((one.name if why else stem(one), one.scope, one.kind, why), []).append(one)
            for (*_, why), many in found.items():
                one = many[0]
                scope = "" if one.scope in ("", "<module>") else one.scope
                name: dict[str, Parameter] = {
                    "name": one.name, "stem": stem(one), "more": len(many) - 1, "scope": scope, "which": which, "line": int(one.line[0]),
                }  # fmt: skip
                if not why:
                    yield Reason.of("name-alone", **name)
                elif why[0] == "numbers":
                    yield Reason.of("name-ambiguous", candidates=[*why[1:]], **name)
                else:
                    yield Reason.of("name-other-size", size=why[1], other=why[2], **name)


def _outdone(pair: tuple[int, int], here: Sequence[tuple[int, int]], ways: Mapping[tuple[int, int], Way]) -> bool:
    """Whether one of two names agrees with another name at more occurrences than with this one."""
    return any((other[0] == pair[0]) != (other[1] == pair[1]) and ways[other].common > ways[pair].common for other in here)


def _live_on(x: Values, y: Values) -> bool:
    """Whether two names have the same size, and about as many assignments or the same numbers."""
    if not fit(x, y) or _once_and_often(x, y):
        return False
    counts = sorted((len(x.order), len(y.order)))
    return counts[1] < 2 * counts[0] or not telling(x) or not telling(y) or same_numbers(x, y) is not None


def _once_and_often(x: Values, y: Values) -> bool:
    counts = sorted((len(x.order), len(y.order)))
    return counts[0] < _MIN_ASSIGNMENTS <= counts[1]


def _hold_the_same(x: Values, y: Values) -> bool:
    return (telling(x) and same_numbers(x, y) is not None) or (not telling(x) and related(x, y))


def _could_mean_the_same(x: Values, y: Values) -> bool:
    if not says_nothing(x):
        return True
    return (len(x.order) == len(y.order) and related(x, y)) or begin_alike(x, y) or same_numbers(x, y) is not None


def _held_the_same(x: Values, y: Values) -> bool:
    return len(x.order) == len(y.order) and len(aliases_left_out([x, y])) == 1


def _grouped(series: Iterable[Values], key: Callable[[Values], object]) -> dict[object, list[Values]]:
    found: dict[object, list[Values]] = {}
    for one in series:
        found.setdefault(key(one), []).append(one)
    return found


def _sizes(one: Values) -> str:
    """`3 x 4`; nothing for a single number."""
    return " x ".join(map(str, one.shape[0]))
