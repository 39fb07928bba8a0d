"""Pairs the occurrences of two names, where one program has more of them than the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from auditor.matching.equivalence import EXTRA_FIRST_VALUES, moves_little, written_over
from auditor.matching.values import Aligned, Integers, Values

#: Relative errors up to which two values are the same, and nearly the same.
_SAME, _NEAR = 1e-5, 1e-2
#: Occurrences that decide between two ways of pairing occurrences.
_COMPARED = 16


def occurrences(x: Values, y: Values, turned: bool) -> tuple[Integers, Integers]:
    """The paired occurrences of two names: [m] of each.

    As many of both: one for one. Otherwise what fits the values best of: by step and occurrence within it; one for one as far as both
    go; with some more at the start of one (a warm-up), whatever the ends; every r-th, also behind a few first ones (a weight that is
    updated in several lines); the last of each step; and with some more in between (an evaluation).
    """
    n, m = len(x.order), len(y.order)
    if n == m:
        return np.arange(n), np.arange(n)
    ways = list(_ways(x, y))
    pairs = [Aligned(x, y, "name", *way, turned) for way in ways]
    scores = [_score(pair) for pair in pairs]
    best = max(range(len(ways)), key=lambda k: (_the_same(pairs[k]), scores[k]))
    # one program drew what was copied over later, and it ends at another place than the other
    kept = moves_little(x, 0) or moves_little(y, 0)
    shifted = [Aligned(x, y, "name", *way, turned) for way in _shifted(n, m)] if kept else []
    if shifted and max(map(_the_same, shifted)) > _the_same(pairs[best]):
        found = max(shifted, key=_the_same)
        return found.ka, found.kb
    if min(n, m) >= 2 and not moves_little(x if n < m else y, 0):  # of a weight many are near
        between = _in_between(x, y, turned)
        if _score(Aligned(x, y, "name", *between, turned)) > scores[best]:
            return between
    return ways[best]


def _shifted(n: int, m: int) -> Iterator[tuple[Integers, Integers]]:
    for front in range(1, min(EXTRA_FIRST_VALUES + 1, n, m)):
        yield np.arange(min(n, m - front)), np.arange(front, front + min(n, m - front))
        yield np.arange(front, front + min(n - front, m)), np.arange(min(n - front, m))


def _ways(x: Values, y: Values) -> Iterator[tuple[Integers, Integers]]:
    n, m = len(x.order), len(y.order)
    if len(np.unique(x.step)) > 1 and len(np.unique(y.step)) > 1:
        ours, theirs = _by_step(x), _by_step(y)
        common = [key for key in ours if key in theirs]
        common = [key for key, after in zip(common, [*common[1:], None], strict=True) if after is None or theirs[after] > theirs[key]]
        if common:
            yield np.array([ours[key] for key in common], np.int64), np.array([theirs[key] for key in common], np.int64)
    least = min(n, m)
    yield np.arange(least), np.arange(least)
    yield np.arange(n - least, n), np.arange(m - least, m)
    for front in range(min(EXTRA_FIRST_VALUES + 1, least)):
        every, rest = divmod(max(n, m) - front, least - front)
        if rest == 0 and every > 1:
            for start in dict.fromkeys((0, every - 1)) if front == 0 else (every - 1,):
                one, other = np.arange(least), np.concatenate([np.arange(front), np.arange(front + start, max(n, m), every)])
                yield (one, other) if n < m else (other, one)
    if len(np.unique(x.step)) > 1 and len(np.unique(y.step)) > 1:
        last = [{step: k for k, step in enumerate(one.step.tolist())} for one in (x, y)]
        both = [step for step in last[0] if step in last[1]]
        ks = [np.array([of[step] for step in both], np.int64) for of in last]
        if both and all((np.diff(k) > 0).all() for k in ks):
            yield ks[0], ks[1]


def _by_step(one: Values) -> dict[tuple[int, int], int]:
    seen: Counter[int] = Counter()
    found = {}
    for k, step in enumerate(one.step.tolist()):
        found[step, seen[step]] = k
        seen[step] += 1
    return found


def overwritten_left_out(pair: Aligned) -> None:
    """Drop the first pair if one program overwrote its first value with the other's in a way that was not recorded.

    The next occurrences show that it did: a value that moves little at a time agrees later only if it agreed at first.
    """
    if (
        len(pair) < EXTRA_FIRST_VALUES
        or pair.size(0) < EXTRA_FIRST_VALUES
        or any(pair.error(i) > _SAME for i in range(1, EXTRA_FIRST_VALUES))
    ):
        return
    if written_over(pair) is not None:
        pair.ka, pair.kb = pair.ka[1:], pair.kb[1:]


def _score(pair: Aligned) -> float:
    """The fraction of the first occurrences that are nearly the same."""
    errors = [pair.error(i) for i in range(min(_COMPARED, len(pair)))]
    return sum(error < _NEAR for error in errors) / len(errors) if errors else 0.0


def _the_same(pair: Aligned) -> int:
    """How many of those occurrences agree up to rounding; these decide where a fault is introduced later."""
    return sum(pair.error(i) < _SAME for i in range(min(_COMPARED, len(pair))))


def _in_between(x: Values, y: Values, turned: bool) -> tuple[Integers, Integers]:
    """Each occurrence of the shorter with the next equal one of the longer, or with the very next if none is equal."""
    shorter, longer = (x, y) if len(x.order) < len(y.order) else (y, x)
    chosen: list[int] = []
    at = 0
    spare = len(longer.order) - len(shorter.order)
    for k in range(len(shorter.order)):
        last = k + spare + 1
        size = shorter.norm[k]
        near = np.flatnonzero(np.abs(longer.norm[at:last] - size) <= _NEAR * size) + at
        for j in near:
            one, other = np.array([k]), np.array([j])
            if Aligned(x, y, "name", *((one, other) if shorter is x else (other, one)), turned).error(0) < _NEAR:
                at = int(j)
                break
        chosen.append(at)
        at += 1
    one, other = np.arange(len(shorter.order)), np.array(chosen, np.int64)
    return (one, other) if shorter is x else (other, one)


def borrow(pairs: list[Aligned]) -> None:
    """Pair occurrences whose values decide nothing in the way of another pair with the same two numbers of occurrences."""
    known: dict[tuple[int, int], tuple[Integers, Integers]] = {}
    unclear = []
    for pair in pairs:
        counts = len(pair.a.order), len(pair.b.order)
        if counts[0] == counts[1]:
            continue
        if _score(pair) < 0.5:
            unclear.append((counts, pair))
        elif len(np.unique(pair.a.norm)) > 2:
            known.setdefault(counts, (pair.ka, pair.kb))
    for counts, pair in unclear:
        if counts in known:
            pair.ka, pair.kb = known[counts]
