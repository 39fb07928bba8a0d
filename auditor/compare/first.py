"""The first mismatch of two lanes, and what can be said of it from the records alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.results import Kind
from auditor.trace import CHANGED, ELSEWHERE
from auditor.trace.ops import ADOPTING, COLLECTIVES, COMPILED, leaves_unwritten
from auditor.trace.reader import LaneTrace, Trace
from auditor.trace.records import inputs_of, outputs_of, schema_in

_CHANGED = json.dumps(CHANGED)
#: Writes into parts of a tensor that are followed back to where it was allocated.
_WRITES = 64


@dataclass(frozen=True)
class Mismatch:
    """The first position at which two lanes differ; `a` or `b` is None where that lane ended."""

    kind: Kind
    index: int
    a: dict[str, Any] | None
    b: dict[str, Any] | None
    sentence: str

    @property
    def ended(self) -> bool:
        """Whether one lane simply stopped here."""
        return self.a is None or self.b is None

    @property
    def on_other_tensors(self) -> bool:
        """Whether both lanes do the same here, and do it on tensors of different origin."""
        same = ("kind", "op", "args", "out", "numbers")
        return self.kind == "structure" and not self.ended and all((self.a or {})[key] == (self.b or {})[key] for key in same)

    @property
    def row_a(self) -> int:
        """Row in the first lane; behind its last one if it ended."""
        return self.a["row"] if self.a else 1 << 60

    @property
    def row_b(self) -> int:
        """Row in the second lane; behind its last one if it ended."""
        return self.b["row"] if self.b else 1 << 60


def first_mismatch(lane: LaneTrace, twin: LaneTrace, a: Trace, b: Trace) -> Mismatch | None:
    """Find and classify the first difference; None if both lanes are equal to their ends."""
    what_a, rows_a = lane.compared
    what_b, rows_b = twin.compared
    both = min(len(what_a), len(what_b))
    differs = np.flatnonzero(what_a[:both] != what_b[:both])
    if len(differs):
        return mismatch_at(int(differs[0]), lane, twin)
    if len(what_a) == len(what_b):
        return None
    longer, rows, shorter_run = (lane, rows_a, b) if len(what_a) > both else (twin, rows_b, a)
    (row,) = longer.rows(int(rows[both]), int(rows[both]))
    failed = shorter_run.meta.get("exit") not in (0, None)
    sentence = f"{shorter_run.id} ended here" + (f" with {_how_it_ended(shorter_run)}" if failed else "") + ", the other run went on"
    return Mismatch("failed" if failed else "structure", both, row if longer is lane else None, row if longer is twin else None, sentence)


def mismatch_at(index: int, lane: LaneTrace, twin: LaneTrace, there: int | None = None) -> Mismatch:
    """Classify the difference between the records at one place of both lanes, or at another one `there` in the second."""
    there = index if there is None else there
    at, other = int(lane.compared[1][index]), int(twin.compared[1][there])
    (row_a,), (row_b,) = lane.rows(at, at), twin.rows(other, other)
    kind, sentence = _kind(row_a, row_b, lane, twin, there - index)
    return Mismatch(kind, index, row_a, row_b, sentence)


def maker_lane(mismatch: Mismatch, lane: LaneTrace, twin: LaneTrace, a: Trace, b: Trace) -> str | None:
    """Name of another lane of the same process in which an input of the op was made that is not the same in both runs."""
    if mismatch.a is None or mismatch.b is None or mismatch.a["kind"] != "op":
        return None
    made = [_elsewhere(mismatch.a, lane, a), _elsewhere(mismatch.b, twin, b)]
    for (ours, at), (theirs, other) in zip(*made, strict=False):
        if ours.name != theirs.name or at != other or int(ours.compared[0][at]) != int(theirs.compared[0][other]):
            return str(ours.name)
    return None


def _elsewhere(row: dict[str, Any], lane: LaneTrace, run: Trace) -> list[tuple[LaneTrace, int]]:
    """The records of other lanes that made an op's inputs: lane, and place among its ops and external tensors."""
    found = []
    for made_by in inputs_of(row):
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


def _how_it_ended(run: Trace) -> str:
    error = run.meta.get("error")
    status = run.meta.get("exit")
    return str(error) if error else f"signal {-status}" if isinstance(status, int) and status < 0 else f"exit status {status}"


def _kind(a: dict[str, Any], b: dict[str, Any], lane: LaneTrace, twin: LaneTrace, apart: int) -> tuple[Kind, str]:
    """What a pair of differing records is; the second is so many places further on in its lane."""
    if any(row["kind"] == "external" and row["args"] == _CHANGED for row in (a, b)):
        alone = " in one run only" if a["kind"] != b["kind"] or a["args"] != b["args"] else ""
        return "hidden-write", f"memory that recorded ops had used was changed{alone}, and no recorded op wrote it"
    if a["kind"] != b["kind"] or a["op"] != b["op"]:
        return "structure", f"one run does {a['op']} here, the other {b['op']}"
    if a["args"] != b["args"]:
        return "argument", f"{a['op']} was given {a['args'] or 'nothing'} in one run and {b['args'] or 'nothing'} in the other"
    if a["out"] != b["out"]:
        return "structure", f"the result's dtype, shape, layout or device differs: {a['out']} and {b['out']}"
    if a["numbers"] != b["numbers"]:
        return "argument", f"{a['op']} was given {a['numbers']} in one run and {b['numbers']} in the other"
    if a["kind"] == "external" and a["op"] == COMPILED:
        return "kernel", "compiled code computed other values, and its inputs are the same as far as recorded ops made them"
    if a["kind"] == "external":
        if a["rows"] and a["rows"] == b["rows"]:
            return "data-order", "the same rows came in in another order"
        return "data", "a tensor that no recorded op made came in with other values"
    if a["op"].startswith(ADOPTING):
        return "data", "memory that no recorded op wrote came in with other values"
    states = [_state_before(row, which) for row, which in ((a, lane), (b, twin))]
    if states[0] != states[1]:
        return "draw", "the random stream that it draws from was in another state"
    given = [_given(a, lane, 0), _given(b, twin, apart)]
    if given[0] != given[1]:
        return "structure", f"{a['op']} was given {_named(given[0])} in one run and {_named(given[1])} in the other"
    if states[0] is not None:
        return "kernel", "the random stream was in the same state, and so were the inputs as far as recorded ops made them"
    interruption = interruption_before(a, b, lane, twin)
    if interruption is not None:
        return "hidden-write", interruption
    if any(_born_empty(row, which) for row, which in ((a, lane), (b, twin))):
        return "uninitialized", "an input was made by torch.empty, and recorded ops wrote none or only part of it"
    if a.get("exact"):
        return "hidden-write", (
            f"{a['op']} cannot differ by itself on equal inputs: something that is no recorded op wrote its input or its result, such as "
            "an extension, NumPy, another process, or a copy or collective that was still in flight"
        )
    return "kernel", "the inputs are the same as far as recorded ops made them"


def _state_before(row: dict[str, Any], lane: LaneTrace) -> int | None:
    """State of the stream that the op at this row drew from; None if it drew nothing."""
    before = lane.rows(row["row"] - 1, row["row"] - 1) if row["row"] else []
    if before and before[0]["kind"] == "draw" and before[0]["op"] == row["op"]:
        return int(before[0]["digest"])
    return None


def _given(row: dict[str, Any], lane: LaneTrace, less: int) -> list[int | None]:
    """The index of each op that made an input, less a number; None for an op of another lane."""
    rows = lane.compared[1]
    return [int(np.searchsorted(rows, made_by)) - less if made_by >= 0 else None for made_by in inputs_of(row)]


def interruption_before(a: dict[str, Any], b: dict[str, Any], lane: LaneTrace, twin: LaneTrace) -> str | None:
    """What is said of an op that an exception interrupted in one of the runs, and that writes into an input of these."""
    event = _interrupted_before(a, lane) or _interrupted_before(b, twin)
    if event is None:
        return None
    return (
        f"an exception interrupted {event['op']} at {event['file']}:{event['line']}, as a signal handler raises one; what it had done "
        "until then, all of it or nothing, is in no record"
    )


def _interrupted_before(row: dict[str, Any], lane: LaneTrace) -> dict[str, Any] | None:
    """The last op that an exception interrupted when it wrote into an input of this one, as the last record had left it."""
    made = set(inputs_of(row)) - {-1}
    before = (event for event in reversed(lane.events_of("interrupted")) if event["row"] <= row["row"])
    return next((event for event in before if event.get("line") is not None and made.intersection(event.get("written") or ())), None)


def _named(given: list[int | None]) -> str:
    return "the result of " + " and ".join("another thread" if index is None else f"op {index}" for index in given) if given else "nothing"


def _born_empty(row: dict[str, Any], lane: LaneTrace) -> bool:
    """Whether an input's memory was last written by nobody."""
    return allocated_by(row, lane) is not None


def allocated_by(row: dict[str, Any], lane: LaneTrace) -> dict[str, Any] | None:
    """The record that allocated an input's memory, if recorded ops have written none of it since, or surely not all of it."""
    for made_by in inputs_of(row):
        written = 0
        for _ in range(_WRITES):
            (maker,) = lane.rows(made_by, made_by) if made_by >= 0 else (None,)
            if maker is None:
                break
            if leaves_unwritten(maker["op"]):
                if not written or written < _elements(maker):
                    return maker
                break
            if not schema_in(maker).in_place or maker["in0"] is None:
                break
            written += _elements(maker)
            made_by = int(maker["in0"])
    return None


def _elements(row: dict[str, Any]) -> int:
    """How many elements the first result of an op has; none if that is not known."""
    outputs = outputs_of(row["out"])
    return outputs[0].elements if outputs else 0
