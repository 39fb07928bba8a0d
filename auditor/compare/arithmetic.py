"""Two runs on different devices -> how far they are apart along the way, and which ops did it. Pure: reads what the traces hold.

Two devices never agree bit by bit, so the first op that differs is of no interest; what is wanted is the first that *added* more than its
bound. Which op of one run is which of the other is `align`'s, how far their results are apart `drift`'s, what of that an op added and what
it inherited `op_errors`'s; here it is put together and said. A difference that grows though no op exceeds its error bound is inherited, and
said to be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from auditor.compare.drift import Beside, Pair, device_of, finite_or_largest
from auditor.compare.mismatch import forward_place
from auditor.compare.non_arithmetic import other_than_arithmetic
from auditor.compare.op_errors import errors_of
from auditor.results import CurvePoint, Detail, DeviceComparison, Divergence, OpError, OpLine, Reason
from auditor.tolerance import Tolerance, unit_roundoff
from auditor.trace import PHASES
from auditor.trace.reader import Trace
from auditor.trace.records import Output

#: Points of the curve: each bucket gives its least and its largest.
_POINTS = 400
_MOST = 10
#: By how much a difference grows beyond what ops add before it is said to.
_GROWN = 100


def compare_devices(a: Trace, b: Trace, tolerances: Sequence[Tolerance]) -> DeviceComparison:
    """How far two runs are apart along the way, and which ops exceed their error bound.

    `tolerances` say what an op may add; an op without one is not judged, unless a shadow did. Raises TraceError `trace-unreadable`.
    """
    lanes = [_Lane(Pair(lane, b.lanes[name], (a, b)), tolerances) for name, lane in a.lanes.items() if name in b.lanes]
    alone = sum(lane.ops for x, y in ((a, b), (b, a)) for name, lane in x.lanes.items() if name not in y.lanes)
    main = next((lane for lane in lanes if a.main is not None and lane.pair.name == a.main.name), None)
    lanes.sort(key=lambda lane: lane is not main)
    unmeasured: Counter[str] = Counter()
    for lane in lanes:
        unmeasured.update(lane.unknown)
    found = DeviceComparison(
        devices=[device_of(a), device_of(b)], runs=[a.id, b.id], aligned=sum(lane.pair.aligned for lane in lanes),
        unaligned=sum(lane.pair.unaligned for lane in lanes) + alone, curve=main.curve if main else [],
        first=next((lane.first for lane in lanes if lane.first is not None), None),
        most=sorted((error for lane in lanes for error in lane.most), key=lambda error: -(error.added or 0.0))[:_MOST],
        end=main.pair.end if main else None, unmeasured=dict(unmeasured.most_common()),
        other=next((other for other in (other_than_arithmetic(lane.pair) for lane in lanes) if other is not None), None),
    )  # fmt: skip
    if main is not None:
        _describe(found, main)
    return found


def divergence_of(comparison: DeviceComparison) -> Divergence | None:
    """The divergence of two devices: the first op that exceeds its error bound, or what was not the same before it; None if neither."""
    error, other = comparison.first, comparison.other
    if error is None or (other is not None and other.lane == error.lane and other.index <= error.index):
        return other
    return Divergence(
        runs=comparison.runs, kind="arithmetic", lane=error.lane, index=error.index, step=error.step, phase=error.phase, op=error.op,
        module=error.module, file=error.file, line=error.line, function=error.function, code=error.code,
        reasons=[_blame(error, comparison)], detail=Detail(forward=error.forward),
    )  # fmt: skip


class _Lane:
    """What is said of one lane of both runs."""

    def __init__(self, pair: Pair, tolerances: Sequence[Tolerance]) -> None:
        self.pair = pair
        self._errors, self.unknown = errors_of(pair, tolerances)

    @cached_property
    def first(self) -> OpError | None:
        """The first op that exceeds its error bound and whose result differs for it: one that is as wrong in both runs is none."""
        over = [k for k in np.flatnonzero(self._errors.excess > 1).tolist() if self._differs(k)]
        return self._error(min(over, key=lambda k: self._errors.order[k])) if over else None

    @cached_property
    def most(self) -> list[OpError]:
        """The ops that added most, each line's once."""
        errors, pair = self._errors, self.pair
        known = np.flatnonzero(errors.added > 0)
        keys = [
            np.where(errors.side[known] == 0, *(column[np.minimum(errors.row[known], len(column) - 1)] for column in columns))
            for columns in ((pair.a.op, pair.b.op), (pair.a.site, pair.b.site))
        ]
        found: dict[tuple[int, int], int] = {}
        for k in np.argsort(-errors.added[known], kind="stable").tolist():
            found.setdefault((int(keys[0][k]), int(keys[1][k])), k)
            if len(found) == _MOST:
                break
        return [self._error(int(known[k]), int(np.count_nonzero((keys[0] == op) & (keys[1] == site)))) for (op, site), k in found.items()]

    def _pair_of(self, k: int) -> int:
        return int((self.pair.pair_of_a, self.pair.pair_of_b)[self._errors.side[k]][self._errors.row[k]])

    def _differs(self, k: int) -> bool:
        return self._pair_of(k) < 0 or bool(self.pair.differs[self._pair_of(k)])

    def _error(self, k: int, times: int = 1) -> OpError:
        at, pair = self._errors, self._pair_of(k)
        side, row, slot, off = int(at.side[k]), int(at.row[k]), int(at.slot[k]), int(at.off[k])
        record = self.pair.record(side, row)
        metas = (self.pair.a, self.pair.b)[side].metas(row)
        meta = metas[slot] if slot < len(metas) else Output("")
        behind = int(self.pair.place(side, at.row[k : k + 1])[0])
        return OpError(
            index=int(self.pair.a.index[behind]) if len(self.pair.a) else 0, differs=self._differs(k),
            run=self.pair.runs[off].id if off >= 0 else None, dtype=meta.dtype, shape=list(meta.shape),
            drift=finite_or_largest(float(self.pair.drift[pair])) if pair >= 0 else None, added=finite_or_largest(float(at.added[k])),
            ulps=finite_or_largest(float(at.ulps[k])), mean_ulps=self._mean_ulps(side, row),
            excess=finite_or_largest(float(at.excess[k])), times=times, lane=self.pair.name, forward=forward_place(record),
            note=None if pair >= 0 else Reason.of("only-on-device", device=self.pair.devices[side]),
            op=record.op, phase=record.phase or "", step=record.step, module=record.module, file=record.file, line=record.line,
            function=record.function, code=record.code,
        )  # fmt: skip

    def _mean_ulps(self, side: int, row: int) -> float | None:
        """Mean error of the elements of the op's worst tensor, if a shadow measured it."""
        beside = self._shadows[side]
        found = [float(beside.columns["mean"][k]) for k in beside.of_row(row)]
        return finite_or_largest(max(found)) if found else None

    @cached_property
    def _shadows(self) -> list[Beside]:
        return [Beside.of(side.lane.shadows()) for side in (self.pair.a, self.pair.b)]

    @cached_property
    def curve(self) -> list[CurvePoint]:
        """Drift along the run: of each stretch the least and the largest, so that no peak is lost."""
        a, drift = self.pair.a, self.pair.drift
        known = np.flatnonzero(np.isfinite(drift) & (a.kind[self.pair.rows_a] == 1))
        if len(known) > _POINTS:
            parts = np.array_split(known, _POINTS // 2)
            known = np.unique([part[pick(drift[part])] for part in parts for pick in (np.argmin, np.argmax)])
        rows = self.pair.rows_a[known]
        columns = zip(a.index[rows].tolist(), a.step[rows].tolist(), a.phase[rows].tolist(), drift[known].tolist(), strict=True)
        return [CurvePoint(index=index, step=step, phase=PHASES[phase], drift=size) for index, step, phase, size in columns]

    @cached_property
    def growth(self) -> tuple[float, float] | None:
        """Median drift of the first and the last tenth of the ops that differ; None if it is about the same, or what one rounding makes.

        Where some of the results are narrow, all that is made of them is as far apart as they are.
        """
        a, drift = self.pair.a, self.pair.drift
        known = np.flatnonzero(np.isfinite(drift) & (drift > 0) & (a.kind[self.pair.rows_a] == 1))
        if not len(known):
            return None
        narrow = np.array([max((unit_roundoff(meta.dtype) for meta in metas), default=0.0) for metas in a.texts.metas])
        tenth = max(len(known) // 10, 1)
        begin, end = float(np.median(drift[known[:tenth]])), float(np.median(drift[known[-tenth:]]))
        added = max(self.most[0].added or 0.0 if self.most else 0.0, float(narrow[a.out[self.pair.rows_a[known]]].max()))
        return (begin, end) if end > _GROWN * max(begin, added) else None


def _blame(error: OpError, comparison: DeviceComparison) -> Reason:
    """Which device is off at an op, and by how much."""
    known = error.run in comparison.runs
    devices = [comparison.devices[comparison.runs.index(error.run or "")]] if known else comparison.devices
    return Reason.of("off-on-devices", devices=[*devices], added=error.added, ulps=error.ulps, excess=error.excess)


def _describe(found: DeviceComparison, main: _Lane) -> None:
    """Add what is seen of the main lane."""
    pair = main.pair
    found.loss, found.holds_parameters, found.growth = pair.loss, bool(pair.held), main.growth
    if pair.differs.any():
        record = pair.record(0, int(pair.rows_a[int(np.argmax(pair.differs))]))
        found.differs_from = OpLine(
            differs=True, index=record.index, op=record.op, phase=record.phase or "", step=record.step, file=record.file, line=record.line,
            code=record.code,
        )  # fmt: skip
    if pair.odd_losses:
        found.not_finite_from = pair.record(0, pair.odd_losses[0]).index
