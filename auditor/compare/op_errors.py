"""What each op of two runs added to their difference, as opposed to what it inherited. Never guesses: what is not known is counted.

An op's error is its own where

1. a shadow recomputed it from the very inputs that it had (exact: nothing is inherited);
2. its inputs are the same in both runs, byte for byte, and its results differ by more than `tolerance.norm_bound`; where norms give no
   bound, by more than the shadows of both runs measured: what they were compared with is then not the same on both devices;
3. the results differ by more than `tolerance.inherited_bound` allows for the difference of the inputs, and `norm_bound` besides.

A shadow is computed by the device's own float64 kernel, and one that has the fault too finds nothing. So the last two are asked beside it,
and each of the three convicts alone. They are seen through sketches, so a difference counts only as far as it is sure, and that of an
input as far as it may be. For a sum of elements with random signs the chance that its square exceeds f**2 times its expectation is largest
where all differing elements went into one of the sketch's sums: that of a chi-square variable with one degree of freedom, and not of the
sixteen that a difference of all elements has (a matrix whose width is a multiple of 16 has each column in one sum). `_SURELY` is f for one
in 1e9, and `_SURELY_SPREAD` where the sums themselves show that no few of them hold it: an estimate in which one sum is large by chance
does not.

Not known are inputs of other threads, tensors that no sketch could be made of, memory of which an unknown part was written, numbers of
Python that differ, results that are not finite in both runs, ops without a rule. A tensor is known by the op that last wrote its memory,
not by the view through which it was used: of a norm the whole memory's is taken, of shapes the one that allows most, and where the two
runs looked at the memory otherwise, nothing is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from typing import NamedTuple

import numpy as np

from auditor.compare.align import Ints
from auditor.compare.columns import Array, Columns
from auditor.compare.drift import OF_SUMS, Beside, Pair
from auditor.tolerance import Tolerance, inherited_bound, matching, norm_bound, unit_roundoff
from auditor.trace.records import Output

#: By how much a sketch overestimates the norm of a difference once in 1e9: sqrt of the quantile of chi-square with 1 degree of freedom.
_SURELY = 6.11
#: The same where the squares of the sums spread over so many of them, by their participation ratio: with as many degrees of freedom.
_SURELY_SPREAD, _SPREAD = 3.0, 6.0
#: By how much one of differences in all elements underestimates it once in 1e9: sqrt of 16 over the lower quantile with 16.
_AT_MOST = 5.4
#: A relative difference of inputs up to which bounds of first order hold.
_SMALL = 0.1
#: An op is looked at more closely if its result differs so many times more than its inputs do.
_AMPLIFIED = 2.0
#: At most this many ops are looked at closely, those that enlarge the difference most.
_LOOKED_AT = 10_000
#: Choices of shapes of an op's inputs that are tried.
_SHAPES = 64
#: Largest part of its dtype's range that a result may fill for an overflow elsewhere to be no matter of rounding.
_FAR_FROM_OVERFLOW = 1e-3
_LARGEST = {"float32": 3.4e38, "bfloat16": 3.4e38, "float16": 65504.0, "float64": 1.8e308}
#: Views that may show an element more than once.
_REPEATING = ("aten.expand.", "aten.as_strided.", "aten.unfold.")


class Errors(NamedTuple):
    """Errors that ops made themselves, one entry an op."""

    order: Array
    """Row in the first run; for an op that the second alone did, half a row behind the one that it follows."""
    side: Ints
    """Whose `row` it is."""
    row: Ints
    off: Ints
    """Which run's result is off; -1: not known."""
    slot: Ints
    """The tensor that is off most."""
    added: Array
    """Norm of the error over that of the result; nan: not known, and within its bound."""
    ulps: Array
    excess: Array


@dataclass
class _Given:
    """A tensor that an op was given in both runs: what is known of the memory that it lay in."""

    shapes: list[tuple[int, ...]]
    norm: float
    delta: float
    """Norm of the difference, at most."""
    same: bool
    rounded: bool
    finite: bool


class _Memory(NamedTuple):
    """Memory that an op wrote in both runs: norm, norm of the difference at most, whether the same, all floating, all finite."""

    norm: float
    delta: float
    same: bool
    rounded: bool
    finite: bool


def errors_of(pair: Pair, tolerances: Sequence[Tolerance]) -> tuple[Errors, Counter[str]]:
    """What ops of a lane added, and how many of each op that differ are not known to have added it or not."""
    parts = [_shadowed(pair, side) for side in (0, 1)]
    both = np.intersect1d(_pairs_of(pair, parts[0]), _pairs_of(pair, parts[1]))
    sketched, unknown = _Judge(pair, tolerances).errors(both[both >= 0])
    found = Errors(*(np.concatenate(columns) for columns in zip(*parts, sketched, strict=True)))
    # of a pair, the run that is further off
    pairs = _pairs_of(pair, found)
    order = np.lexsort((-found.excess, pairs))
    again = np.zeros(len(order), bool)
    again[1:] = (np.diff(pairs[order]) == 0) & (pairs[order][1:] >= 0)
    keep = np.sort(order[~again])
    return Errors(*(column[keep] for column in found)), unknown


def _pairs_of(pair: Pair, errors: Errors) -> Ints:
    found = np.full(len(errors.row), -1, np.int64)
    for side, pair_of in enumerate((pair.pair_of_a, pair.pair_of_b)):
        mine = errors.side == side
        found[mine] = pair_of[errors.row[mine]]
    return found


def _shadowed(pair: Pair, side: int) -> Errors:
    """What the shadow of one run says; an error that is no number is as large as can be."""
    beside = Beside.of((pair.a, pair.b)[side].lane.shadows())
    none = np.zeros(0)
    if not len(beside.at):
        whole = none.astype(np.int64)
        return Errors(none, whole, whole, whole, whole, none, none, none)
    excess, ulps = (np.nan_to_num(beside.columns[name], nan=np.inf) for name in ("excess", "ulps"))
    order = np.lexsort((-excess, beside.at))  # the worst tensor of each op first
    rows, first = np.unique(beside.at[order], return_index=True)
    error, norm = (np.sqrt(np.add.reduceat(np.square(beside.columns[name][order]), first)) for name in ("error", "norm"))
    with np.errstate(invalid="ignore", divide="ignore"):
        added = np.where(error > 0, error / norm, 0.0)
    alone = (pair.pair_of_a, pair.pair_of_b)[side][rows] < 0
    which = np.full(len(rows), side, np.int64)
    at = pair.place(side, rows) + 0.5 * (alone & (side == 1))
    worst = np.maximum.reduceat(ulps[order], first)
    return Errors(at, which, rows, which, beside.slot[order][first], np.nan_to_num(added, nan=np.inf), worst, excess[order][first])


class _Judge:
    """What the sketches of a lane tell of its ops' own errors."""

    def __init__(self, pair: Pair, tolerances: Sequence[Tolerance]) -> None:
        self.pair = pair
        self.a, self.b = pair.a, pair.b
        self.sketches = pair.sketches
        self._rules = [matching(tolerances, facts.name) for facts in self.a.texts.ops]
        self._known: dict[tuple[int, int], _Memory | None] = {}

    def errors(self, shadowed: Ints) -> tuple[Errors, Counter[str]]:
        """Errors of pairs; of those that a shadow measured in both runs (`shadowed`) only errors that are beyond their bound.

        And how many of each op are not known.
        """
        pair, unknown = self.pair, Counter[str]()
        rows_a, rows_b = pair.rows_a, pair.rows_b
        open_ = pair.differs & (self.a.kind[rows_a] == 1) & ~np.isnan(pair.sizes[1])  # has floating results
        measured = np.zeros(len(rows_a), bool)
        measured[shadowed] = True
        ruled = np.array([rule is not None and rule.judged for rule in self._rules], bool)
        judged = open_ & ruled[self.a.op[rows_a]] & ruled[self.b.op[rows_b]] & (self.a.numbers[rows_a] == self.b.numbers[rows_b])
        judged &= (self.a.args[rows_a] == self.b.args[rows_b]) & ~pair.drawn_otherwise
        beyond = open_ & ~judged & ~measured
        for code, count in zip(*(c.tolist() for c in np.unique(self.a.op[rows_a[beyond]], return_counts=True)), strict=True):
            unknown[self.a.texts.texts["op"][code]] += count
        drift = np.nan_to_num(pair.drift)
        went_in = self._went_in(drift)
        close = np.flatnonzero(judged & ((drift > _AMPLIFIED * went_in) | np.isnan(pair.drift)))
        if len(close) > _LOOKED_AT:
            with np.errstate(divide="ignore"):
                close = np.sort(close[np.argsort(-(drift[close] / went_in[close]))[:_LOOKED_AT]])
        i, j, of_pair, squared = pair.matched
        found: list[tuple[float, int, int, int, int, float, float, float]] = []
        for k in close.tolist():
            first, end = np.searchsorted(of_pair, [k, k + 1]).tolist()
            verdict = self._verdict(k, [(int(i[m]), int(j[m]), float(squared[m])) for m in range(first, end)])
            if verdict is None:
                unknown += Counter([self.a.name(int(rows_a[k]))] if not measured[k] else ())
            elif not measured[k] or verdict[2] > 1:
                slot, added, excess = verdict
                found.append((float(rows_a[k]), 0, int(rows_a[k]), -1, slot, added, float("nan"), excess))
        columns: list[Array] = [np.array([one[k] for one in found], np.float64 if k in (0, 5, 6, 7) else np.int64) for k in range(8)]
        return Errors(*columns), unknown

    def _went_in(self, drift: Array) -> Array:
        """Of each pair the largest relative difference of its inputs; 0 where they are no pairs, or many."""
        pair = self.pair
        found = np.zeros(len(pair.rows_a))
        overwrites = np.array([facts.schema.overwrites for facts in self.a.texts.ops], bool)[self.a.op[pair.rows_a]]
        for k in range(3 if len(found) else 0):
            ours, theirs = self.a.inputs[pair.rows_a, k], self.b.inputs[pair.rows_b, k]
            maker = np.where(ours >= 0, pair.pair_of_a[np.maximum(ours, 0)], -1)
            met = (maker >= 0) & (theirs >= 0) & (pair.rows_b[np.maximum(maker, 0)] == theirs)
            if k == 0:
                met &= ~overwrites
            found[met] = np.maximum(found[met], drift[maker[met]])
        found[self.a.listed[pair.rows_a]] = 0.0
        return found

    def _verdict(self, k: int, tensors: list[tuple[int, int, float]]) -> tuple[int, float, float] | None:
        """What a pair added: slot, its norm over the result's, and how many times its bound it surely is; None: not known.

        `tensors`: positions of both sketches, and square of the norm of the difference.
        """
        row_a, row_b = int(self.pair.rows_a[k]), int(self.pair.rows_b[k])
        given = self._given(row_a, row_b)
        if given is None:
            return None
        equal = all(one.same for one in given)
        if any(not one.finite or not (one.rounded or one.same) or one.delta > _SMALL * one.norm for one in given):
            return None
        worst: tuple[int, float, float] | None = None
        for i, j, squared in tensors:
            slot = int(self.sketches[0].slot[i])
            if slot and self.a.name(row_a) != self.b.name(row_b):
                continue  # of counterparts only the first result is known to be the same
            meta = self.a.metas(row_a)[slot]
            ours, theirs = (side.columns for side in self.sketches)
            norm = max(float(ours["norm"][i]), float(theirs["norm"][j]))
            allowed = self._allowed(row_a, row_b, given, meta, norm, equal)
            if allowed is None and equal and meta.rounded:
                allowed = self._measured(row_a, row_b, slot, meta, norm)
            if ours["nonfinite"][i] != theirs["nonfinite"][j]:
                # an overflow may be inherited where the other run is near to one, and so may a quotient by what is nearly zero
                far = max(ours["largest"][i], theirs["largest"][j]) <= _FAR_FROM_OVERFLOW * _LARGEST.get(meta.dtype, 0.0)
                return (slot, float("inf"), float("inf")) if equal or (allowed is not None and far) else None
            if ours["nonfinite"][i] or allowed is None:
                return None
            difference = squared**0.5
            squares = np.square(ours["sums"][i] - theirs["sums"][j])
            spread = float(squares.sum()) ** 2 >= _SPREAD * float(np.square(squares).sum())
            sure = max(difference / (_SURELY_SPREAD if spread else _SURELY) - OF_SUMS * norm, 0.0)
            excess = sure / allowed if allowed > 0 else float("inf") if sure > 0 else 0.0
            added = difference / (norm or 1.0) if equal or excess > 1 else float("nan")
            if worst is None or excess > worst[2]:
                worst = slot, added, excess
        return worst

    def _allowed(self, row_a: int, row_b: int, given: list[_Given], meta: Output, norm: float, equal: bool) -> float | None:
        """Bound of the norm of the difference, for the choice of shapes that allows most; None: nothing is known."""
        floating = [one for one in given if one.rounded]
        bounds = []
        for side, row in {self.a.name(row_a): (self.a, row_a), self.b.name(row_b): (self.b, row_b)}.values():
            rule = self._rules[side.op[row]]
            if rule is None:
                return None
            args = [*side.arguments(row), *([0.5] if side.floats[row] else [])]  # which floats is not asked, only whether there are any
            output = (meta.shape, norm)
            for shapes in islice(product(*(one.shapes for one in floating)), _SHAPES):
                bound = norm_bound(rule, meta.dtype, [(s, one.norm) for s, one in zip(shapes, floating, strict=True)], output, args)
                inherited = 0.0 if equal else inherited_bound(
                    rule, [(s, one.norm, one.delta) for s, one in zip(shapes, floating, strict=True)], output, args
                )  # fmt: skip
                if bound is None or inherited is None:
                    return None
                bounds.append(bound + inherited)
        return max(bounds)

    def _measured(self, row_a: int, row_b: int, slot: int, meta: Output, norm: float) -> float | None:
        """How far results of equal inputs can be apart by what the shadows measured: both are so far off one reference.

        None if one was not measured. A rounding of the result is added, so that references may differ by as much.
        """
        ours, theirs = (side.get((row, slot)) for side, row in zip(self._errors, (row_a, row_b), strict=True))
        return None if ours is None or theirs is None else ours + theirs + unit_roundoff(meta.dtype) * norm

    @cached_property
    def _errors(self) -> list[dict[tuple[int, int], float]]:
        """Of each run the norm of the error of each tensor that a shadow measured, by record and slot."""
        found = []
        for side in (self.a, self.b):
            beside = Beside.of(side.lane.shadows())
            keys = zip(beside.at.tolist(), beside.slot.tolist(), strict=True)
            found.append(dict(zip(keys, map(float, beside.columns["error"]), strict=True)))
        return found

    def _given(self, row_a: int, row_b: int) -> list[_Given] | None:
        """What a pair was given; None if some of it is not known."""
        ours, theirs = self.a.given(row_a), self.b.given(row_b)
        if len(ours) != len(theirs):
            return None
        found = []
        for x, y in zip(ours, theirs, strict=True):
            known = self._memory(x, y)
            if known is None:
                return None
            seen, views = self.a.views(x, row_a)
            if seen != self.b.views(y, row_b)[0]:
                return None
            shown = [meta for view in views for meta in self.a.metas(view)]
            shapes = list(dict.fromkeys(meta.shape for meta in (*self.a.metas(x), *shown)))
            larger = _repeated(self.a, x, views)
            found.append(_Given(shapes, known.norm * larger, known.delta * larger, known.same, known.rounded, known.finite))
        return found

    def _memory(self, row_a: int, row_b: int) -> _Memory | None:
        """What two records wrote last, and what they left of what was there before; None if it is not known."""
        chain = [(row_a, row_b)]  # of writes into parts of one tensor, as long as a loop of the script
        while min(last := chain[-1]) >= 0 and last not in self._known and self.a.partial[last[0]]:
            chain.append((int(self.a.before[last[0]]), int(self.b.before[last[1]])))
        for at in reversed(chain):
            if at not in self._known:
                self._known[at] = None if min(at) < 0 else self._written(*at)
        return self._known[row_a, row_b]

    def _written(self, row_a: int, row_b: int) -> _Memory | None:
        layouts = self.a.texts.of_metas[0]
        if layouts[self.a.out[row_a]] != layouts[self.b.out[row_b]] or bool(self.a.partial[row_a]) != bool(self.b.partial[row_b]):
            return None
        same = self.pair.is_same(row_a, row_b)
        metas = self.a.metas(row_a)
        ours, theirs = (side.of_row(row) for side, row in zip(self.sketches, (row_a, row_b), strict=True))
        slots = self.sketches[0].slot[ours.start : ours.stop]
        if not len(ours) or not np.array_equal(slots, self.sketches[1].slot[theirs.start : theirs.stop]):
            return None
        if not same and (len(ours) < len(metas) or slots[-1] >= len(metas)):
            return None  # a part of it has no sketch
        sums, norms, odd = (
            [side.columns[name][at.start : at.stop] for side, at in zip(self.sketches, (ours, theirs), strict=True)]
            for name in ("sums", "norm", "nonfinite")
        )
        delta = 0.0
        if not same:
            with np.errstate(invalid="ignore", over="ignore"):
                by_slot = np.sqrt(np.square(sums[0] - sums[1]).sum(1))
            # where elements differ by a rounding and cancel in the sums, there is at least the rounding
            least = np.array([unit_roundoff(metas[slot].dtype) for slot in slots.tolist()]) * norms[0]
            delta = float(np.sqrt(np.square(np.maximum(_AT_MOST * by_slot, least)).sum()))
        norm = max(float(np.sqrt(np.square(one).sum())) for one in norms)
        finite = not odd[0].any() and not odd[1].any()
        if not self.a.partial[row_a]:
            return _Memory(norm, delta, same, all(meta.rounded for meta in metas), finite)
        before = self._known[int(self.a.before[row_a]), int(self.b.before[row_b])]
        if before is None:
            return None
        return _Memory(
            float(np.hypot(norm, before.norm)), float(np.hypot(delta, before.delta)), same and before.same, before.rounded,
            finite and before.finite,
        )  # fmt: skip


def _repeated(side: Columns, row: int, views: list[int]) -> float:
    """By what a norm can be larger than that of the memory: a view may show an element many times."""
    sizes = [meta.elements for meta in side.metas(row)]
    found = 1.0
    for view in views:
        metas = side.metas(view)
        if metas and side.name(view).startswith(_REPEATING):
            found = max(found, (metas[0].elements / max(1, min(sizes, default=1))) ** 0.5)
        sizes += [meta.elements for meta in metas]
    return found
