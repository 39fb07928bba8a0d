"""Where a difference entered, if not at the op that shows it: draws and seeds before it, and files that were read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from auditor.compare.first import Mismatch
from auditor.results import FileDifference, Kind, Stream
from auditor.trace.reader import LaneTrace

#: Kinds that say that something came in from outside of torch's ops.
DRAWN_FROM_OUTSIDE: tuple[Kind, ...] = ("draw", "data", "data-order", "argument", "structure", "failed")


@dataclass(frozen=True)
class Origin:
    """The first draw or seed of a stream in which two runs differ."""

    stream: str
    op: str
    index: int
    file: str | None
    line: int | None
    function: str | None
    code: str | None
    phase: str | None
    step: int | None
    sentence: str
    seen: Stream
    row: int


def origin(kind: Kind, mismatch: Mismatch, lane: LaneTrace, twin: LaneTrace) -> Origin | None:
    """The draw or seed that a mismatch of this kind came from; None if it began at the op itself."""
    if kind not in DRAWN_FROM_OUTSIDE:
        return None
    differing = _differing(lane, twin, mismatch)
    if kind == "draw":
        own = _stream_at(mismatch.row_a, lane) or _stream_at(mismatch.row_b, twin)
        differing = {stream: events for stream, events in differing.items() if stream == own}
    if not differing:
        return None
    nearest = max(differing, key=lambda stream: (max(event["row"] for event in differing[stream][-1] if event is not None), stream))
    first, other = differing[nearest][0]
    if first["k"] == "draw":
        if kind == "draw" and first["row"] >= mismatch.row_a - 1 and (other is None or other["row"] >= mismatch.row_b - 1):
            return None  # the op is itself the first draw that differs
        if other is not None and other["index"] < first["index"]:
            first, other = other, first
    return Origin(
        nearest, first["function"], first.get("index", mismatch.index), first.get("file"), first.get("line"), first.get("func"),
        first.get("code"), first.get("phase"), first.get("step"), _sentence(first, other, nearest), _stream(nearest, first, other),
        first["row"],
    )  # fmt: skip


def own_stream(mismatch: Mismatch, lane: LaneTrace, twin: LaneTrace) -> Stream | None:
    """The stream that the op of a mismatch draws from itself."""
    name = _stream_at(mismatch.row_a, lane) or _stream_at(mismatch.row_b, twin)
    row = mismatch.a or mismatch.b or {}
    return Stream(name=name, what=f"draw by {row['op']}", file=row["file"], line=row["line"]) if name else None


def _stream(name: str, first: dict[str, Any], other: dict[str, Any] | None) -> Stream:
    return Stream(
        name=name, what=f"{first['k']} by {first['function']}", a=first.get("value"), b=other.get("value") if other else None,
        file=first.get("file"), line=first.get("line"), entropy=bool(first.get("entropy") or (other or {}).get("entropy")),
    )  # fmt: skip


def _sentence(first: dict[str, Any], other: dict[str, Any] | None, stream: str) -> str:
    if first["k"] == "seed":
        if other is None:
            return f"the stream {stream} was seeded here in one run and not in the other"
        if first.get("entropy") or other.get("entropy"):
            return f"the stream {stream} was seeded from the operating system's entropy"
        if first.get("value") == other.get("value"):
            return f"the stream {stream} was put into another state here"
        return f"the stream {stream} was seeded with {first['value']} in one run and with {other['value']} in the other"
    return f"the stream {stream} was in another state when it was drawn from here: it was never seeded, or not with the same seed"


def differing_streams(lane: LaneTrace, twin: LaneTrace, mismatch: Mismatch) -> list[Stream]:
    """Each random stream that differs before the mismatch, by its first differing event; then settings that differ."""
    found = [_stream(stream, *pairs[0]) for stream, pairs in _differing(lane, twin, mismatch).items()]
    settings = [_settings(which, row) for which, row in ((lane, mismatch.row_a), (twin, mismatch.row_b))]
    for name in sorted(set(settings[0]) | set(settings[1])):
        a, b = settings[0].get(name), settings[1].get(name)
        if a != b:
            found.append(Stream(name=name, what="setting", a=str(a), b=str(b)))
    return found


def differing_files(lane: LaneTrace, twin: LaneTrace, mismatch: Mismatch) -> list[FileDifference]:
    """Files read (and folders listed) before the mismatch whose content, or order, was not the same; and files read by one run only."""
    seen: list[dict[tuple[str, str, int], dict[str, Any]]] = []
    for which, row in ((lane, mismatch.row_a), (twin, mismatch.row_b)):
        reads: dict[tuple[str, str, int], dict[str, Any]] = {}
        times: Counter[tuple[str, str]] = Counter()
        for event in which.events_of("file"):
            if event["row"] <= row and event.get("digest") is not None:
                path, op = event["path"], event["op"]
                reads[path, op, times[path, op]] = event
                times[path, op] += 1
        seen.append(reads)
    found: dict[tuple[str, str], FileDifference] = {}
    for path, op, n in [*seen[0], *(key for key in seen[1] if key not in seen[0])]:
        a, b = seen[0].get((path, op, n)), seen[1].get((path, op, n))
        if (path, op) in found or (a and b and a["digest"] == b["digest"]):
            continue
        event = a or b or {}
        what = _what_of_file(op, a, b)
        found[path, op] = FileDifference(path=path, op=op, what=what, file=event.get("file"), line=event.get("line"))
    return list(found.values())


def _what_of_file(op: str, a: dict[str, Any] | None, b: dict[str, Any] | None) -> str:
    if a is None or b is None:
        return "listed by one run only" if op == "list" else "read by one run only"
    if op != "list":
        return "other content"
    return "listed in another order, or other names" if a.get("size") == b.get("size") else "other names in it"


def _settings(lane: LaneTrace, row: int) -> dict[str, Any]:
    return {event["name"]: event["value"] for event in lane.events_of("setting") if event["row"] <= row}


def _stream_at(row: int, lane: LaneTrace) -> str | None:
    """The stream that the op at this row drew from."""
    return next((str(draw["stream"]) for draw in lane.draws if draw["row"] == row - 1), None)


def _timeline(lane: LaneTrace, until: int) -> dict[str, list[dict[str, Any]]]:
    """Draws and seeds up to a row, by stream, in order."""
    events = [
        {"k": "draw", "row": d["row"], "index": d["index"], "stream": d["stream"], "function": d["op"], "state": d["digest"],
         "file": d["file"], "line": d["line"], "func": d["function"], "code": d["code"], "phase": d["phase"], "step": d["step"]}
        for d in lane.draws if d["row"] < until
    ]  # fmt: skip
    events += [event for event in lane.events_of("seed") if event["row"] <= until]
    # a seed stands before the record of the same row
    events.sort(key=lambda event: (event["row"], event["k"] == "draw"))
    streams: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        streams.setdefault(event["stream"], []).append(event)
    return streams


def _without_own(streams: dict[str, list[dict[str, Any]]], row: dict[str, Any] | None) -> None:
    """Leave out the draw that an op makes itself: it stands just before the op, by its name."""
    for events in streams.values():
        last = events[-1]
        if row is not None and (last["k"], last["row"], last["function"]) == ("draw", row["row"] - 1, row["op"]):
            events.pop()


def _differing(lane: LaneTrace, twin: LaneTrace, mismatch: Mismatch) -> dict[str, list[tuple[dict[str, Any], dict[str, Any] | None]]]:
    """Per stream the pairs of its n-th events that differ, those without a partner included."""
    ours, theirs = _timeline(lane, mismatch.row_a), _timeline(twin, mismatch.row_b)
    if mismatch.kind != "draw":
        # what another op draws than that of the other run is part of the mismatch, and nothing before it
        _without_own(ours, mismatch.a)
        _without_own(theirs, mismatch.b)
    found: dict[str, list[tuple[dict[str, Any], dict[str, Any] | None]]] = {}
    for stream in [*ours, *(s for s in theirs if s not in ours)]:
        a, b = ours.get(stream, []), theirs.get(stream, [])
        pairs: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
        for n in range(max(len(a), len(b))):
            x, y = (a[n] if n < len(a) else None), (b[n] if n < len(b) else None)
            if x is None or y is None:
                pairs.append((x or y or {}, None))
            elif x["k"] != y["k"]:
                pairs.append((x if x["k"] == "seed" else y, None))  # one run was seeded where the other already drew
            elif (x["k"], x["function"], x["state"]) != (y["k"], y["function"], y["state"]):
                pairs.append((x, y))
        if pairs:
            found[stream] = pairs
    return found
