"""A checkpoint of which a module loads nothing, or almost nothing, because `strict=False` skips names that do not match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """Below which part of a checkpoint a module loads too little of it, if it also loads less than that part of its own tensors."""

    part: float


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per call.

    A module that loads all its tensors from a larger checkpoint uses a part of it on purpose. One that loads all of a small checkpoint
    gets the rest from others, as adapters do. Neither is a fault.
    """
    for lane in runs[0].run.lanes.values():
        for event in lane.events_of("loaded"):
            given, missing = event["given"], event["missing"]
            taken = max(given - event["unexpected"], 0)
            few = not taken or (taken < params.part * given and taken < params.part * (taken + missing))
            if event.get("importing") or not missing or not few:
                continue
            # of a random op, a difference may be seen at its draw, which is the record before it
            rows = sorted({row - back for row in event.get("written") or () if row > 0 for back in (0, 1)})
            made = runs[0].query(
                'SELECT DISTINCT file, line FROM records WHERE lane = ? AND "row" IN (SELECT unnest(?::BIGINT[])) AND line IS NOT NULL',
                lane.name,
                rows,
            )
            values = {
                "lines": [f"{row['file']}:{row['line']}" for row in made],
                "module": event["name"], "taken": taken, "given": given, "missing": missing, "names": _names(event),
                "subject": event["name"], "rows": rows,
            }  # fmt: skip
            yield Hit(event.get("file"), event.get("line"), values, lanes=(lane.name,))


def _names(event: dict[str, Any]) -> str:
    """How the names differ, as a clause: by a prefix if there is one, else by an example."""
    missing, unexpected = event["missing_names"], event["unexpected_names"]
    if not unexpected:
        return ""
    for ours in missing:
        for theirs in unexpected:
            for longer, shorter, whose in ((theirs, ours, "the checkpoint's"), (ours, theirs, "the module's")):
                if longer.endswith(f".{shorter}"):
                    return f": {whose} names begin with {longer.removesuffix(shorter)}"
    return f": the checkpoint has {unexpected[0]}, the module {missing[0]}"


DETECTOR = Detector("unloaded-checkpoint", _find, Params, frozenset({"module", "taken", "given", "missing", "names", "rows", "lines"}))
