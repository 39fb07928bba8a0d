"""What code that torch does not see was given and gave back: tensors whose memory was handed out before the difference."""

from __future__ import annotations

from typing import Any, NamedTuple

from auditor.compare.mismatch import Mismatch, place_of
from auditor.results import OpLine, Place, Reason
from auditor.trace.reader import LaneTrace

#: Tensors that were handed out and are told of, the latest before the difference.
_MOST = 4


class Outside(NamedTuple):
    """Where a tensor came in that no recorded op made, and what had been handed out since the one before it."""

    came: Place
    function: str | None
    handed: list[OpLine]


def outside(mismatch: Mismatch, lane: LaneTrace, counterpart: LaneTrace) -> Outside:
    """For an external tensor that differs: where it came in, and from which recorded tensors it may have been computed."""
    row = mismatch.record
    arrivals = lane.events_of("came")
    here = next((event for event in arrivals if event["row"] == mismatch.row_a + 1), None)
    place = _place(here) if here is not None else place_of(row)
    before = [event["row"] for event in arrivals if event["row"] <= mismatch.row_a and _place(event) == place]
    found = handed_before(mismatch, lane, counterpart, max(before, default=0))
    numbers = lane.query(
        """SELECT "index", op, phase, step, file, line, function, code FROM records
        WHERE op = 'aten._local_scalar_dense.default' AND "row" < ? AND step = ? AND file = ? AND line = ? ORDER BY "row" DESC LIMIT ?""",
        min(mismatch.row_a, 1 << 60), row.step, place.file, place.line, _MOST,
    )  # fmt: skip
    return Outside(place, here.get("function") if here else None, [*found, *(OpLine(**number) for number in numbers)][:_MOST])


def handed_before(mismatch: Mismatch, lane: LaneTrace, counterpart: LaneTrace, since: int = 0) -> list[OpLine]:
    """The latest tensors whose memory was handed out before a mismatch; they `differ` if they did not hold the same in both runs."""
    ours, theirs = lane.events_of("handed"), counterpart.events_of("handed")
    found = []
    for k, event in enumerate(ours):
        if since <= event["row"] <= mismatch.row_a:
            other = theirs[k] if k < len(theirs) else {}
            place = {key: event.get(key) for key in ("file", "line", "code")}
            differs = (event.get("digest"), event.get("function")) != (other.get("digest"), other.get("function"))
            found.append(OpLine(index=mismatch.index, op=str(event.get("function")), function=event.get("func"), differs=differs, **place))
    return found[-_MOST:]


def _place(event: dict[str, Any]) -> Place:
    function = event["func"] if "func" in event else event.get("function")
    return Place(file=event.get("file"), line=event.get("line"), function=function, code=event.get("code"))


def reason_of(found: Outside) -> Reason:
    """Why a tensor is called computed outside torch."""
    given = list(dict.fromkeys((one.op, f"{one.file}:{one.line}") for one in found.handed))
    return Reason.of(
        "computed-outside-torch", function=found.function, ops=[op for op, _ in given], places=[place for _, place in given],
        differ=any(one.differs for one in found.handed),
    )  # fmt: skip
