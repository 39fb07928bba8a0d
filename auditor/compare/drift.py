"""How far two runs on different devices are apart, op by op: one lane of both. Measures, and judges nothing."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from auditor.compare.align import Ints, aligned
from auditor.compare.columns import Array, Columns, lanes_as_columns
from auditor.trace import OPTIMIZER
from auditor.trace.reader import LaneTrace, Trace
from auditor.trace.records import Record

#: Rounding of the sums of a sketch themselves, which are float64, over the norm of the tensor.
OF_SUMS = 2.0**-48
#: Slots of an op in one number with it.
_SLOTS = 1 << 12


class Beside(NamedTuple):
    """Sketches or shadows of a lane; `at` are the rows."""

    at: Ints
    slot: Ints
    columns: dict[str, Array]

    @classmethod
    def of(cls, columns: dict[str, Array]) -> Beside:
        """What a lane's reader gave."""
        return cls(columns["row"].astype(np.int64), columns["slot"].astype(np.int64), columns)

    def of_row(self, row: int) -> range:
        """Positions of the entries of a record."""
        first, end = np.searchsorted(self.at, [row, row + 1]).tolist()
        return range(first, end)


class Pair:
    """A lane of both runs; `rows_a` and `rows_b` are the records of each pair, in order."""

    def __init__(self, a: LaneTrace, b: LaneTrace, runs: tuple[Trace, Trace]) -> None:
        """Read and align two lanes of the same name."""
        self.name = a.name
        self.runs = runs
        self.devices = (device_of(runs[0]), device_of(runs[1]))
        self.a, self.b = lanes_as_columns(a, b)
        i, j = aligned(self.a.sequence, self.b.sequence)
        self.rows_a, self.rows_b = self.a.compared[i], self.b.compared[j]
        self.pair_of_a, self.pair_of_b = (np.full(len(side), -1, np.int64) for side in (self.a, self.b))
        self.pair_of_a[self.rows_a] = self.pair_of_b[self.rows_b] = np.arange(len(i))
        self.sketches = [Beside.of(side.lane.sketches()) for side in (self.a, self.b)]

    @cached_property
    def aligned(self) -> int:
        """Ops of both."""
        return int(np.count_nonzero(self.a.kind[self.rows_a] == 1))

    @property
    def unaligned(self) -> int:
        """Ops of one of them."""
        return int(np.count_nonzero(self.a.kind == 1) + np.count_nonzero(self.b.kind == 1)) - 2 * self.aligned

    @cached_property
    def same(self) -> Array:
        """Of each pair whether its results are known to be equal, byte for byte."""
        a, b = self.rows_a, self.rows_b
        metas = self.a.texts.of_metas[1]
        found: Array = (self.a.digest[a] == self.b.digest[b]) & (self.a.digest[a] != 0)
        found &= metas[self.a.out[a]] == metas[self.b.out[b]]
        for k in np.flatnonzero(found & (self.a.listed[a] | self.b.listed[b])).tolist():
            found[k] = self.is_same(int(a[k]), int(b[k]))
        return found

    def is_same(self, row_a: int, row_b: int) -> bool:
        """Whether two records made the same, byte for byte, and all of it was read."""
        metas = self.a.texts.of_metas[1]
        if metas[self.a.out[row_a]] != metas[self.b.out[row_b]]:
            return False
        digests = self.a.digests(row_a)
        several = len(self.a.metas(row_a)) if self.a.listed[row_a] else 1
        return digests == self.b.digests(row_b) and 0 not in digests[:several]

    @cached_property
    def matched(self) -> tuple[Ints, Ints, Ints, Array]:
        """Sketches of the same tensor of a pair: positions among those of each run, the pair, and squared difference."""
        keys, at = [], []
        for beside, pair_of in zip(self.sketches, (self.pair_of_a, self.pair_of_b), strict=True):
            pair = pair_of[beside.at] if len(beside.at) else beside.at
            known = np.flatnonzero(pair >= 0)
            keys.append(pair[known] * _SLOTS + beside.slot[known])
            at.append(known)
        both, i, j = np.intersect1d(keys[0], keys[1], return_indices=True)
        i, j, pair = at[0][i], at[1][j], both // _SLOTS
        keep = self._rounded(self.a, self.rows_a[pair], both % _SLOTS) & self._rounded(self.b, self.rows_b[pair], both % _SLOTS)
        i, j, pair, slot = i[keep], j[keep], pair[keep], (both % _SLOTS)[keep]
        squared = np.zeros(len(i))
        for first in range(0, len(i), 1 << 16):  # the sums of a million ops are 128 MB a run
            part = slice(first, first + (1 << 16))
            with np.errstate(invalid="ignore", over="ignore"):
                squared[part] = np.square(self.sketches[0].columns["sums"][i[part]] - self.sketches[1].columns["sums"][j[part]]).sum(1)
        squared[self.same[pair]] = 0.0
        metas = self.a.texts.of_metas[1]
        several = (
            self.a.listed[self.rows_a[pair]]
            & (squared > 0)
            & (metas[self.a.out[self.rows_a[pair]]] == metas[self.b.out[self.rows_b[pair]]])
        )
        for k in np.flatnonzero(several).tolist():
            ours, theirs = self.a.digests(int(self.rows_a[pair[k]])), self.b.digests(int(self.rows_b[pair[k]]))
            s = int(slot[k])
            # the last digest may stand for several tensors, see `trace.MORE_LIMIT`
            if s < min(len(ours), len(theirs)) - 1 and ours[s] == theirs[s] != 0:
                squared[k] = 0.0
        return i, j, pair, squared

    @staticmethod
    def _rounded(side: Columns, rows: Ints, slots: Ints) -> Array:
        """Whether these tensors of these records are floating point."""
        of_codes = side.texts.metas
        width = max((len(metas) for metas in of_codes), default=0) + 1
        table = np.zeros((len(of_codes), width), bool)
        for code, metas in enumerate(of_codes):
            table[code, : len(metas)] = [meta.rounded for meta in metas]
        return np.asarray(table[side.out[rows], np.minimum(slots, width - 1)], bool)

    @cached_property
    def sizes(self) -> tuple[Array, Array, Array]:
        """Of each pair the norm of its result in the first run (in the second, if zero), that of the difference, tensors not finite."""
        i, j, pair, squared = self.matched
        n = len(self.rows_a)
        a, b = (np.bincount(pair, np.square(s.columns["norm"][k]), n) for s, k in zip(self.sketches, (i, j), strict=True))
        sketched = np.bincount(pair, minlength=n) > 0
        difference = np.where(sketched, np.sqrt(np.bincount(pair, squared, n)), np.nan)
        odd = self.sketches[0].columns["nonfinite"][i] + self.sketches[1].columns["nonfinite"][j]
        return np.sqrt(np.where(a > 0, a, b)), difference, np.bincount(pair, odd > 0, n) > 0

    @cached_property
    def drift(self) -> Array:
        """Of each pair the norm of the difference of its results over that of the result; nan: not known."""
        norm, difference, odd = self.sizes
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.where(difference > 0, difference / norm, difference)
        found[~(difference > OF_SUMS * norm) & ~np.isnan(difference)] = 0.0
        found[odd & ~self.same] = np.nan
        return np.asarray(found)

    @cached_property
    def differs(self) -> Array:
        """Of each pair whether its results are known to differ in value: two layouts of the same values have other digests."""
        read = (self.a.digest[self.rows_a] != 0) & (self.b.digest[self.rows_b] != 0)
        found: Array = read & ~self.same & (np.isnan(self.drift) | (self.drift > 0))
        return found

    @cached_property
    def drawn_otherwise(self) -> Array:
        """Of each pair whether it drew from a stream in another state."""
        draw_a, draw_b = self.a.draw[self.rows_a], self.b.draw[self.rows_b]
        drew = (draw_a >= 0) & (draw_b >= 0)
        found: Array = drew & (self.a.digest[np.maximum(draw_a, 0)] != self.b.digest[np.maximum(draw_b, 0)])
        return found

    def place(self, side: int, rows: Ints) -> Ints:
        """Rows of a run, or those of the first run behind which they stand."""
        if side == 0:
            return rows
        behind = np.searchsorted(self.rows_b, rows, "right") - 1
        return np.where(behind >= 0, self.rows_a[np.maximum(behind, 0)], 0) if len(self.rows_a) else np.zeros_like(rows)

    def record(self, side: int, row: int) -> Record:
        """All that is known of a record of one run."""
        return (self.a, self.b)[side].lane.rows(row, row)[0]

    @cached_property
    def _losses(self) -> list[int]:
        """Rows of what backward passes began with, in both runs."""
        roots = [event.get("root") for event in self.a.lane.events_of("backward")]
        return [root for root in roots if isinstance(root, int) and 0 <= root < len(self.a) and self.pair_of_a[root] >= 0]

    @cached_property
    def loss(self) -> float | None:
        """Drift of the last loss."""
        return finite_or_largest(float(self.drift[self.pair_of_a[self._losses[-1]]])) if self._losses else None

    @cached_property
    def odd_losses(self) -> list[int]:
        """Rows of the losses from the first that is not finite on, if the last is none either."""
        odd = [bool(self.sizes[2][self.pair_of_a[row]]) for row in self._losses]
        return self._losses[odd.index(True) :] if odd and odd[-1] else []

    @cached_property
    def held(self) -> list[int]:
        """Pairs that wrote the parameters of optimizers last, in the last step that both have."""
        rows = {row for event in self.a.lane.events_of("optimizer") for row in event.get("written") or [] if 0 <= row < len(self.a)}
        roots = self.a.root[sorted(rows)]
        ours = self.rows_a
        writing = (self.a.phase[ours] == OPTIMIZER) & (self.a.before[ours] >= 0) & np.isin(self.a.root[ours], roots)
        pairs = np.flatnonzero(writing & ~np.isnan(self.drift))
        pairs = pairs[self.a.step[ours[pairs]] == self.a.step[ours[pairs[-1:]]]]
        return list({int(self.a.root[ours[k]]): k for k in pairs.tolist()}.values())

    @cached_property
    def end(self) -> float | None:
        """Drift of the parameters after their last step; of the last loss where no optimizer holds them."""
        if not self.held:
            return self.loss
        norm = self.sizes[0][self.held]
        whole = float(np.sqrt(np.square(norm).sum()))
        return float(np.sqrt(np.square(self.drift[self.held] * norm).sum())) / whole if whole else None


def finite_or_largest(value: float) -> float | None:
    """What JSON can hold of a number; one that is not finite is so large that its size says nothing."""
    return None if np.isnan(value) else min(value, 1e300)


def device_of(run: Trace) -> str:
    """What the device of a run is called."""
    return str((run.meta.get("plan") or {}).get("device") or run.meta.get("device") or "cpu")
