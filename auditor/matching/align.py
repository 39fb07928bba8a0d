"""Which name of one program belongs to which of the other, and which of their occurrences. Never guesses: what is ambiguous stays alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from auditor.matching.relation import permuted
from auditor.matching.values import Aligned, Array, Integers, Values, elements, relative_error, short_name

#: Names of which every program has some: the same one elsewhere means nothing unless the values do.
_COMMON = frozenset(("tmp", "temp", "val", "value", "res", "result", "out", "ret", "arr", "data", "item", "total", "count", "num", "idx"))
#: How a gradient is called by hand: `db1`, `d_b1`, `grad_b1`, `g_b1`, `gb1`, `b1_grad`, `b1_g`.
_GRADIENT = re.compile(r"(?:d|d_|grad_|g_|g|grad)(?P<behind>\w+)|(?P<before>\w+?)_?(?:grad|gradient|_g|_d)")
#: How many more values one program may have in front of those that are the same.
_IN_FRONT = 4
#: Occurrences by which values are found to be the same.
_LOOKED_AT = 3
#: How many occurrences of the other program may lie between two that belong together.
_BETWEEN = 64


@dataclass
class Alignment:
    """Aligned names in order of the first program's execution, and a sentence for each that was not."""

    pairs: list[Aligned] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)


def alignment(a: Sequence[Values], b: Sequence[Values], mapping: Mapping[str, str]) -> Alignment:
    """The names of two programs, brought together: what the mapping says, then by name, then by value."""
    made = _Pairing([one for one in a if len(one.order)], [one for one in b if len(one.order)])
    for ours, theirs in mapping.items():
        made.take_mapped(ours, theirs)
    made.take_unique(lambda one: (one.name, one.scope, one.kind))
    made.take_unique(lambda one: (one.name, one.scope))
    made.take_unique(_path, wary=True)
    made.take_gradients()
    made.take_endings()
    made.take_unique(lambda one: (_ending(one), one.kind), wary=True)
    made.take_values()
    found = [Aligned(x, y, how, *_occurrences(x, y, turned), turned) for x, y, how, turned in made.taken]  # type: ignore[arg-type]
    for pair in found:
        pair.rearranged = id(pair.a) in made.rearranged
    _borrow(found)
    for pair in found:
        known = (pair.a.digest[pair.ka] != 0) & (pair.b.digest[pair.kb] != 0)  # 0: past the budget, nothing was kept
        pair.ka, pair.kb = pair.ka[known], pair.kb[known]
    found = [pair for pair in found if len(pair)]
    found.sort(key=lambda pair: int(pair.a.order[pair.ka[0]]))
    return Alignment(found, made.complaints + list(made.left_alone()))


class _Pairing:
    """What has been brought together so far, and what is left of both."""

    def __init__(self, a: Sequence[Values], b: Sequence[Values]) -> None:
        self.a, self.b = list(a), list(b)
        self.taken: list[tuple[Values, Values, str, bool]] = []
        self.complaints: list[str] = []
        self.rearranged: set[int] = set()
        self._could: dict[int, list[str]] = {}

    def _take(self, x: Values, y: Values, how: str, turned: bool) -> None:
        self.taken.append((x, y, how, turned))
        self.a = [one for one in self.a if one is not x]
        self.b = [one for one in self.b if one is not y]

    def take_mapped(self, ours: str, theirs: str) -> None:
        """Brings two names together that the user named, or says why that cannot be."""
        found = [_named(ours, self.a), _named(theirs, self.b)]
        for name, which, many in zip((ours, theirs), ("first", "second"), found, strict=True):
            if len(many) != 1:
                said = "has no value of that name" if not many else f"has {len(many)} of that name, in {_listed(x.scope for x in many)}"
                self.complaints.append(f"`{ours}` = `{theirs}` of the mapping: the {which} program {said} (`{name}`)")
                return
        x, y = found[0][0], found[1][0]
        self._take(x, y, "map", _turned(x, y))

    def take_unique(self, key: Callable[[Values], object], *, wary: bool = False) -> None:
        """Brings together what has the same key, where one of each program has it; if wary, common names need values that are related."""
        ours, theirs = _grouped(self.a, key), _grouped(self.b, key)
        for found, xs in ours.items():
            ys = theirs.get(found, [])
            if len(xs) * len(ys) > 1:
                xs, ys = self._alike_in_number(_aliases_left_out(xs), _aliases_left_out(ys))
            if len(xs) == len(ys) == 1 and _fit(xs[0], ys[0]) and not (wary and _says_nothing(xs[0]) and not _related(xs[0], ys[0])):
                self._take(xs[0], ys[0], "name", _turned(xs[0], ys[0]))

    @staticmethod
    def _alike_in_number(xs: list[Values], ys: list[Values]) -> tuple[list[Values], list[Values]]:
        """Of several with one name the two that were assigned as often and begin with related values, if no others do so."""
        if len(xs) * len(ys) <= 1:
            return xs, ys
        both = [(x, y) for x in xs for y in ys if len(x.order) == len(y.order) and _fit(x, y) and _related(x, y)]
        return ([both[0][0]], [both[0][1]]) if len(both) == 1 else (xs, ys)

    def take_gradients(self) -> None:
        """Brings `b1.grad` together with `db1`, `grad_b1`, `b1_grad`: only of a name that both programs know."""
        known = {short_name(x) for x, _, _, _ in self.taken}

        def key(one: Values) -> str:
            if one.name.endswith(".grad"):
                return one.name.removesuffix(".grad").rpartition(".")[2]
            found = _GRADIENT.fullmatch(short_name(one))
            return (found["behind"] or found["before"]).lstrip("_") if found else ""

        ours = {base: many for base, many in _grouped(self.a, key).items() if base in known}
        theirs = _grouped(self.b, key)
        for base, xs in ours.items():
            ys = theirs.get(base, [])
            if len(xs) == len(ys) == 1 and _fit(xs[0], ys[0]):
                self._take(xs[0], ys[0], "name", _turned(xs[0], ys[0]))

    def take_endings(self) -> None:
        """Brings together paths of which one ends with the other: `fc.weight` and `self.model.fc.weight`."""
        for x in list(self.a):
            ys = [y for y in self.b if _one_ends_the_other(x, y) and _fit(x, y) and (not _says_nothing(x) or _related(x, y))]
            if len(ys) == 1 and sum(_one_ends_the_other(z, ys[0]) and _fit(z, ys[0]) for z in self.a) == 1:
                self._take(x, ys[0], "name", _turned(x, ys[0]))

    def take_values(self) -> None:
        """Brings together what holds the same numbers, where only one of each program does."""
        ours = _aliases_left_out([x for x in self.a if _telling(x)])
        theirs = _aliases_left_out([y for y in self.b if _telling(y)])
        ways: dict[tuple[int, int], int] = {}
        for i, x in enumerate(ours):
            for j, y in enumerate(theirs):
                way = _same_numbers(x, y)
                if way:
                    ways[i, j] = way
        for rank in sorted(set(ways.values())):
            gone = {id(one) for x, y, _, _ in self.taken for one in (x, y)}
            here = [(i, j) for (i, j), way in ways.items() if way == rank and id(ours[i]) not in gone and id(theirs[j]) not in gone]
            here = [pair for pair in here if not _outdone(pair, here, ours, theirs)]
            ones, others = Counter(i for i, _ in here), Counter(j for _, j in here)
            for i, j in here:
                x, y = ours[i], theirs[j]
                if ones[i] == others[j] == 1:
                    self._take(x, y, "value", rank == _TRANSPOSED or (rank == _REORDERED and _turned(x, y)))
                    if rank == _REARRANGED:
                        self.rearranged.add(id(x))
                else:
                    self._could.setdefault(id(x), []).append(y.name)
                    self._could.setdefault(id(y), []).append(x.name)

    def left_alone(self) -> Iterator[str]:
        """A sentence for each name without a counterpart, in order of execution."""
        for which, left, others in (("first", self.a, self.b), ("second", self.b, self.a)):
            for one in sorted(left, key=lambda one: int(one.order[0])):
                could = self._could.get(id(one), [])
                same = [other for other in others if other.name == one.name]
                if _telling(one) and any(_held_the_same((x, y)[which == "second"], one) for x, y, _, _ in self.taken):
                    continue  # another name of what has a counterpart
                if could:
                    why = f"it holds the same numbers as each of {_listed(f'`{name}`' for name in could)}, and only one can be meant"
                    if len(could) == 1:
                        why = f"`{could[0]}` holds the same numbers, and so does another name beside it"
                elif same and not any(_fit(one, other) for other in same):
                    why = f"that of the other program has another size ({_sizes(same[0])}, not {_sizes(one)})"
                else:
                    why = "no counterpart"
                scope = "" if one.scope in ("", "<module>") else f" in {one.scope}"
                yield f"`{one.name}`{scope} of the {which} program (line {int(one.line[0])}): {why}"


def _outdone(pair: tuple[int, int], here: Sequence[tuple[int, int]], ours: Sequence[Values], theirs: Sequence[Values]) -> bool:
    """Whether one of two names is the same as another one's values at more occurrences than these have in common."""

    def common(one: tuple[int, int]) -> int:
        return min(len(ours[one[0]].order), len(theirs[one[1]].order))

    return any((other[0] == pair[0]) != (other[1] == pair[1]) and common(other) > common(pair) for other in here)


def _held_the_same(x: Values, y: Values) -> bool:
    return len(x.order) == len(y.order) and len(_aliases_left_out([x, y])) == 1


def _grouped(series: Iterable[Values], key: Callable[[Values], object]) -> dict[object, list[Values]]:
    found: dict[object, list[Values]] = {}
    for one in series:
        found.setdefault(key(one), []).append(one)
    return found


def _named(name: str, series: Sequence[Values]) -> list[Values]:
    """What a user can mean by a name: its path, `function:path`, or a path that ends so."""
    scope, colon, path = name.rpartition(":")
    if colon:
        return [one for one in series if one.name == path and one.scope.endswith(scope)]
    return [one for one in series if one.name == name] or [one for one in series if one.name.endswith("." + name)]


def _path(one: Values) -> str:
    """The path without what only says who holds it: the instance, a wrapper of a module."""
    return re.sub(r"(?:^self\.)|\b(?:module|_orig_mod)\.", "", one.name)


def _ending(one: Values) -> str:
    """The last component, with that before it of a gradient; without the number that a recurrent module gives its first layer."""
    end = short_name(one) if one.kind != "gradient" else ".".join(one.name.split(".")[-2:])
    return re.sub(r"_l0\b", "", end)


def _one_ends_the_other(x: Values, y: Values) -> bool:
    ours, theirs = "." + _path(x), "." + _path(y)
    return ours != theirs and x.kind == y.kind and (ours.endswith(theirs) or theirs.endswith(ours))


def _says_nothing(one: Values) -> bool:
    name = re.sub(r"[\d_]+", "", short_name(one))
    return len(name) <= 1 or name in _COMMON


def _sizes(one: Values) -> str:
    return " x ".join(map(str, one.shape[0])) or "a single number"


def _listed(words: Iterable[str]) -> str:
    found = list(dict.fromkeys(words))
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def _fit(x: Values, y: Values) -> bool:
    """Whether two names had values of one size among their first."""
    return bool({elements(shape) for shape in x.shape[:4]} & {elements(shape) for shape in y.shape[:4]})


def _turned(x: Values, y: Values) -> bool:
    """Whether the shapes of two matrices say that one is the transpose of the other."""
    ours, theirs = x.shape[0], y.shape[0]
    return len(ours) == len(theirs) == 2 and ours == theirs[::-1] and ours != theirs and min(ours) > 1


def _first(x: Values, y: Values, count: int) -> Aligned:
    many = np.arange(min(count, len(x.order), len(y.order)))
    return Aligned(x, y, "name", many, many, _turned(x, y))


def _related(x: Values, y: Values) -> bool:
    """Whether the first values of two names have anything to do with one another."""
    pair = _first(x, y, 1)
    if pair.error(0) < 0.5:
        return True
    ours, theirs = pair.both(0)
    sizes = pair.norms(0)
    if ours.size < 4 or 0 in sizes:
        return False
    with np.errstate(all="ignore"):
        cosine = abs(np.vdot(ours.ravel(), theirs.ravel())) / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    return bool(cosine > 0.9) or abs(sizes[0] / sizes[1] - 1) < 1e-4


def _telling(one: Values) -> bool:
    """Whether the values of a name can only be its own: neither constant nor few small whole numbers."""
    size = elements(one.shape[0])
    if size >= 4:
        return any(_tells(one, k) for k in dict.fromkeys((0, len(one.order) - 1)))
    return size == 1 and len(np.unique(one.total[:64])) >= 3 and not np.array_equal(one.total[:64], np.round(one.total[:64]))


def _tells(one: Values, k: int) -> bool:
    value, size = one.value(k), elements(one.shape[k])
    if value is None:
        return bool(one.norm[k] > 0 and abs(one.total[k] ** 2 / size - one.norm[k] ** 2) > 1e-9 * one.norm[k] ** 2)
    kinds, counts = np.unique(value, return_counts=True)
    return len(kinds) >= 3 or (len(kinds) == 2 and min(counts) >= 16)


def _close_enough(x: Values, y: Values) -> float:
    dtypes = set(x.dtype[:1]) | set(y.dtype[:1])
    return 2e-2 if dtypes & {"float16", "bfloat16"} else 1e-9 if dtypes <= {"float64", "complex128", "int64"} else 1e-5


#: How the same numbers are found, the surest first.
_SAME, _SAME_AT_LAST, _TRANSPOSED, _REORDERED, _REARRANGED = range(1, 6)


def _same_numbers(x: Values, y: Values) -> int:
    """How the values of two names are the same but for rounding; 0 if they are not.

    The first ones, whatever their shapes; the last ones, where one program has more in front of them (zeros to begin with); transposed;
    in another order of rows; in another layout, as far as sorting can tell.
    """
    n, m = len(x.order), len(y.order)
    count = min(_LOOKED_AT if elements(x.shape[0]) > 1 else 8, n, m)
    if elements(x.shape[0]) != elements(y.shape[0]) or (elements(x.shape[0]) == 1 and count < 3):
        return 0
    many = np.arange(count)
    close = _close_enough(x, y)

    def alike(first: int, second: int, turned: bool = False, rearranged: bool = False) -> bool:
        ours, theirs = x.norm[first : first + count], y.norm[second : second + count]
        if (np.abs(ours - theirs) > 2 * close * np.maximum(ours, theirs)).any():
            return False
        pair = Aligned(x, y, "value", many + first, many + second, turned, rearranged)
        return all(pair.error(i) <= close for i in range(count))

    if (elements(x.shape[0]) == 1 or _tells(x, 0)) and alike(0, 0):
        return _SAME
    if n != m and abs(n - m) <= _IN_FRONT and alike(n - count, m - count) and _varied(x, n - 1):
        return _SAME_AT_LAST
    shapes = x.shape[0], y.shape[0]
    if len(shapes[0]) == 2 and shapes[0] == shapes[1][::-1] and alike(0, 0, True):
        return _TRANSPOSED
    if len(shapes[0]) >= 1 and shapes[0] == shapes[1] and shapes[0][0] >= 4:
        found = [Aligned(x, y, "value", many, many).values(i) for i in range(count)]
        if all(pair is not None and _rows_permuted(*pair, close) for pair in found):
            return _REORDERED
    if shapes[0] != shapes[1] and elements(shapes[0]) >= 16 and _varied(x, 0) and x.value(0) is not None and y.value(0) is not None:
        return _REARRANGED if alike(0, 0, rearranged=True) else 0
    return 0


def _varied(one: Values, k: int) -> bool:
    """Whether a value has at least eight different elements, or is not known whole."""
    value = one.value(k)
    return value is None or len(np.unique(value)) >= min(8, value.size) >= 4


def _aliases_left_out(series: list[Values]) -> list[Values]:
    """Of names that held the same all the time the first: which of them is meant makes no difference."""
    if len(series) < 2:
        return series
    kept: dict[object, Values] = {}
    for one in sorted(series, key=lambda one: int(one.order[0])):
        kept.setdefault((one.digest.tobytes(), tuple(one.dtype), tuple(one.shape)), one)
    return list(kept.values())


def _rows_permuted(x: Array, y: Array, close: float) -> bool:
    again = permuted(x, y, 0)
    return again is not None and relative_error(again, y) <= close


def _occurrences(x: Values, y: Values, turned: bool) -> tuple[Integers, Integers]:
    """Which occurrences of two names belong together: [m] of each.

    As many of both: one for one. Otherwise what fits the values best of: by step and occurrence within it; one for one as far as both
    go; with some more at the start of one (a warm-up); every r-th; and with some more in between (an evaluation).
    """
    n, m = len(x.order), len(y.order)
    if n == m:
        return np.arange(n), np.arange(n)
    ways = list(_ways(x, y))
    scores = [_score(Aligned(x, y, "name", *way, turned)) for way in ways]
    best = int(np.argmax(scores))
    if scores[best] < 0.75 and min(n, m) >= 2:
        between = _in_between(x, y, turned)
        if _score(Aligned(x, y, "name", *between, turned)) > scores[best] + 0.2:
            return between
    return ways[best]


def _ways(x: Values, y: Values) -> Iterator[tuple[Integers, Integers]]:
    n, m = len(x.order), len(y.order)
    if len(np.unique(x.step)) > 1 and len(np.unique(y.step)) > 1:
        ours, theirs = _by_step(x), _by_step(y)
        common = [key for key in ours if key in theirs]
        common = [key for key, after in zip(common, [*common[1:], None], strict=True) if after is None or theirs[after] > theirs[key]]
        if 2 * len(common) >= min(n, m):
            yield np.array([ours[key] for key in common], np.int64), np.array([theirs[key] for key in common], np.int64)
    least = min(n, m)
    yield np.arange(least), np.arange(least)
    yield np.arange(n - least, n), np.arange(m - least, m)
    if max(n, m) % least == 0:
        every = max(n, m) // least
        for start in dict.fromkeys((0, every - 1)):
            one, other = np.arange(least), np.arange(start, max(n, m), every)
            yield (one, other) if n < m else (other, one)


def _by_step(one: Values) -> dict[tuple[int, int], int]:
    seen: Counter[int] = Counter()
    found = {}
    for k, step in enumerate(one.step.tolist()):
        found[step, seen[step]] = k
        seen[step] += 1
    return found


def _score(pair: Aligned) -> float:
    """The part of some occurrences that are nearly the same: the first 16 that can be compared."""
    errors = [pair.error(i) for i in range(min(16, len(pair)))]
    return sum(error < 1e-2 for error in errors) / len(errors) if errors else 0.0


def _in_between(x: Values, y: Values, turned: bool) -> tuple[Integers, Integers]:
    """Each occurrence of the shorter with the next of the longer that holds the same; with the very next where none does."""
    shorter, longer = (x, y) if len(x.order) < len(y.order) else (y, x)
    chosen: list[int] = []
    at = 0
    spare = len(longer.order) - len(shorter.order)
    for k in range(len(shorter.order)):
        last = min(at + _BETWEEN, k + spare + 1)
        size = shorter.norm[k]
        near = np.flatnonzero(np.abs(longer.norm[at:last] - size) <= 1e-2 * size) + at
        for j in near:
            one, other = np.array([k]), np.array([j])
            if Aligned(x, y, "name", *((one, other) if shorter is x else (other, one)), turned).error(0) < 1e-2:
                at = int(j)
                break
        chosen.append(at)
        at += 1
    one, other = np.arange(len(shorter.order)), np.array(chosen, np.int64)
    return (one, other) if shorter is x else (other, one)


def _borrow(pairs: list[Aligned]) -> None:
    """Aligns occurrences that nothing tells apart as those of another pair were that came as often in both programs."""
    known: dict[tuple[int, int], tuple[Integers, Integers]] = {}
    unclear = []
    for pair in pairs:
        counts = len(pair.a.order), len(pair.b.order)
        if counts[0] == counts[1]:
            continue
        if _score(pair) >= 0.75 and len(np.unique(pair.a.norm)) > 2:
            known.setdefault(counts, (pair.ka, pair.kb))
        elif _score(pair) < 0.5:
            unclear.append((counts, pair))
    for counts, pair in unclear:
        if counts in known:
            pair.ka, pair.kb = known[counts]
