"""The first mismatch of two lanes, and what can be said of it from the records alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.results import Kind, Place, Reason
from auditor.trace import CHANGED, ELSEWHERE
from auditor.trace.ops import ADOPTING, COLLECTIVES, COMPILED, leaves_unwritten
from auditor.trace.reader import LaneTrace, Trace
from auditor.trace.records import Record

_CHANGED = json.dumps(CHANGED)
#: Writes into parts of a tensor that are followed back to where it was allocated.
_WRITES = 64


@dataclass(frozen=True)
class Mismatch:
    """The first position at which two lanes differ; `a` or `b` is None where that lane ended."""

    kind: Kind
    index: int
    a: Record | None
    b: Record | None
    reasons: tuple[Reason, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether one lane simply stopped here."""
        return self.a is None or self.b is None

    @property
    def record(self) -> Record:
        """That of the first lane or, where it ended, of the second."""
        found = self.a or self.b
        if found is None:
            raise ValueError("both lanes ended")
        return found

    @property
    def on_other_tensors(self) -> bool:
        """Whether both lanes do the same here, and do it on tensors of different origin."""
        same = ("kind", "op", "args", "out", "numbers")
        return self.kind == "structure" and not self.ended and all(getattr(self.a, key) == getattr(self.b, key) for key in same)

    @property
    def row_a(self) -> int:
        """Row in the first lane; behind its last one if it ended."""
        return self.a.row if self.a else 1 << 60

    @property
    def row_b(self) -> int:
        """Row in the second lane; behind its last one if it ended."""
        return self.b.row if self.b else 1 << 60


def first_mismatch(lane: LaneTrace, counterpart: LaneTrace, a: Trace, b: Trace) -> Mismatch | None:
    """Find and classify the first difference; None if both lanes are equal to their ends."""
    what_a, rows_a = lane.compared
    what_b, rows_b = counterpart.compared
    both = min(len(what_a), len(what_b))
    differs = np.flatnonzero(what_a[:both] != what_b[:both])
    if len(differs):
        return mismatch_at(int(differs[0]), lane, counterpart)
    if len(what_a) == len(what_b):
        return None
    longer, rows, shorter_run = (lane, rows_a, b) if len(what_a) > both else (counterpart, rows_b, a)
    (row,) = longer.rows(int(rows[both]), int(rows[both]))
    failed = shorter_run.meta.get("exit") not in (0, None)
    status = shorter_run.meta.get("exit") if failed else None
    ended = Reason.of("run-ended", run=shorter_run.id, error=shorter_run.meta.get("error") if failed else None, status=status)
    return Mismatch(
        "failed" if failed else "structure", both, row if longer is lane else None, row if longer is counterpart else None, (ended,)
    )


def mismatch_at(index: int, lane: LaneTrace, counterpart: LaneTrace, there: int | None = None) -> Mismatch:
    """Classify the difference between the records at one place of both lanes, or at another one `there` in the second."""
    there = index if there is None else there
    at, other = int(lane.compared[1][index]), int(counterpart.compared[1][there])
    (row_a,), (row_b,) = lane.rows(at, at), counterpart.rows(other, other)
    kind, reason = _kind(row_a, row_b, lane, counterpart, there - index)
    return Mismatch(kind, index, row_a, row_b, (reason,))


def maker_lane(mismatch: Mismatch, lane: LaneTrace, counterpart: LaneTrace, a: Trace, b: Trace) -> str | None:
    """Name of another lane of the same process in which an input of the op was made that is not the same in both runs."""
    if mismatch.a is None or mismatch.b is None or mismatch.a.kind != "op":
        return None
    made = [_elsewhere(mismatch.a, lane, a), _elsewhere(mismatch.b, counterpart, b)]
    for (ours, at), (theirs, other) in zip(*made, strict=False):
        if ours.name != theirs.name or at != other or int(ours.compared[0][at]) != int(theirs.compared[0][other]):
            return str(ours.name)
    return None


def _elsewhere(row: Record, lane: LaneTrace, run: Trace) -> list[tuple[LaneTrace, int]]:
    """The records of other lanes that made an op's inputs: lane, and place among its ops and external tensors."""
    found = []
    for made_by in row.made_by:
        number = ELSEWHERE - made_by
        if made_by >= -1 or number < 1:
            continue
        kin = [one for one in run.lanes.values() if one.facts["base"] < number and one.facts.get("pid") == lane.facts.get("pid")]
        maker = max(kin, key=lambda one: one.facts["base"], default=None)
        if maker is None:
            continue
        rows = maker.query('SELECT "row" FROM records WHERE record <= ? ORDER BY record DESC LIMIT 1', number - maker.facts["base"])
        if not rows:
            continue
        place = int(np.searchsorted(maker.compared[1], rows[0]["row"]))
        if maker is not lane and place < len(maker.compared[1]):
            found.append((maker, place))
    return found


def collectives_before(mismatch: Mismatch, lane: LaneTrace) -> int:
    """Ops between ranks that a lane did before the mismatch."""
    started = " OR ".join(f"op LIKE '{name}%'" for name in COLLECTIVES)
    return int(lane.query(f'SELECT count(*) AS n FROM records WHERE "row" < ? AND ({started})', min(mismatch.row_a, 1 << 60))[0]["n"])


def _kind(a: Record, b: Record, lane: LaneTrace, counterpart: LaneTrace, apart: int) -> tuple[Kind, Reason]:
    """What a pair of differing records is; the second is so many places further on in its lane."""
    if any(row.kind == "external" and row.args == _CHANGED for row in (a, b)):
        return "hidden-write", Reason.of("memory-changed", alone=a.kind != b.kind or a.args != b.args)
    if a.kind != b.kind or a.op != b.op:
        return "structure", Reason.of("other-op", a=a.op, b=b.op)
    if a.args != b.args:
        return "argument", Reason.of("other-arguments", op=a.op, a=a.args, b=b.args)
    if a.out != b.out:
        return "structure", Reason.of("other-layout", a=a.out, b=b.out)
    if a.numbers != b.numbers:
        return "argument", Reason.of("other-arguments", op=a.op, a=a.numbers, b=b.numbers)
    if a.kind == "external" and a.op == COMPILED:
        return "kernel", Reason.of("other-compiled-values")
    if a.kind == "external":
        if a.rows and a.rows == b.rows:
            return "data-order", Reason.of("other-row-order")
        return "data", Reason.of("other-external-values")
    if a.op.startswith(ADOPTING):
        return "data", Reason.of("other-adopted-values")
    states = [which.state_drawn_from(row) for row, which in ((a, lane), (b, counterpart))]
    if states[0] != states[1]:
        return "draw", Reason.of("other-stream-state")
    given = [_given(a, lane, 0), _given(b, counterpart, apart)]
    if given[0] != given[1]:
        return "structure", Reason.of("other-inputs", op=a.op, a=given[0], b=given[1])
    if states[0] is not None:
        return "kernel", Reason.of("same-stream-and-inputs")
    interruption = interruption_before(a, b, lane, counterpart)
    if interruption is not None:
        return "hidden-write", Reason.of("op-interrupted", **interruption)
    if any(_born_empty(row, which) for row, which in ((a, lane), (b, counterpart))):
        return "uninitialized", Reason.of("input-not-written")
    if a.exact:
        return "hidden-write", Reason.of("exact-op-differs", op=a.op)
    return "kernel", Reason.of("same-inputs-as-recorded")


def _given(row: Record, lane: LaneTrace, less: int) -> list[str | int | float | None]:
    """The index of each op that made an input, less a number; None for an op of another lane."""
    rows = lane.compared[1]
    return [int(np.searchsorted(rows, made_by)) - less if made_by >= 0 else None for made_by in row.made_by]


def interruption_before(a: Record, b: Record, lane: LaneTrace, counterpart: LaneTrace) -> dict[str, Any] | None:
    """The op, with its line, that an exception interrupted in one of the runs and that writes into an input of these."""
    event = _interrupted_before(a, lane) or _interrupted_before(b, counterpart)
    return None if event is None else {key: event[key] for key in ("op", "file", "line")}


def _interrupted_before(row: Record, lane: LaneTrace) -> dict[str, Any] | None:
    """The last op that an exception interrupted when it wrote into an input of this one, as the last record had left it."""
    made = set(row.made_by) - {-1}
    before = (event for event in reversed(lane.events_of("interrupted")) if event["row"] <= row.row)
    return next((event for event in before if event.get("line") is not None and made.intersection(event.get("written") or ())), None)


def _born_empty(row: Record, lane: LaneTrace) -> bool:
    """Whether an input's memory was last written by nobody."""
    return allocated_by(row, lane) is not None


def allocated_by(row: Record, lane: LaneTrace) -> Record | None:
    """The record that allocated an input's memory, if recorded ops have written none of it since, or surely not all of it."""
    for made_by in row.made_by:
        written = 0
        for _ in range(_WRITES):
            (maker,) = lane.rows(made_by, made_by) if made_by >= 0 else (None,)
            if maker is None:
                break
            if leaves_unwritten(maker.op):
                if not written or written < maker.elements:
                    return maker
                break
            if not maker.schema.in_place or maker.in0 is None:
                break
            written += maker.elements
            made_by = maker.in0
    return None


def place_of(record: Record) -> Place:
    """The user's line that a record comes from."""
    return Place(file=record.file, line=record.line, function=record.function, code=record.code)


def forward_place(record: Record) -> Place | None:
    """For a backward op, the line of its forward op."""
    if not record.forward_file:
        return None
    return Place(file=record.forward_file, line=record.forward_line, code=record.forward_code)
