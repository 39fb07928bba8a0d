"""Where a difference entered, if not at the op that shows it: draws and seeds before it, and files that were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from auditor.compare.mismatch import Mismatch
from auditor.results import Kind, Reason, Stream
from auditor.source import Flow
from auditor.trace.reader import LaneTrace, Trace
from auditor.trace.records import Record
from auditor.trace.shared_streams import exchanged_draws

#: Kinds that say that something came in from outside of torch's ops.
DRAWN_FROM_OUTSIDE: tuple[Kind, ...] = ("draw", "data", "data-order", "argument", "structure", "failed")

#: `root`: it differs by itself, nobody seeded it; `seed`: it was given different seeds; `moved`: it was drawn from more often in one run
#: before; `extra`: one run draws from it where the other does not, in the same state.
How = Literal["root", "seed", "moved", "extra"]


@dataclass(frozen=True)
class Changed:
    """A stream that differs before a mismatch: its events that do, in pairs; `far`: how far away what it feeds is, if it is seen to."""

    stream: str
    how: How
    pairs: list[tuple[dict[str, Any], dict[str, Any] | None]]
    far: int | None = None

    @property
    def first(self) -> dict[str, Any]:
        """The first event that differs, in the first run if that has it."""
        return self.pairs[0][0]

    @property
    def other(self) -> dict[str, Any] | None:
        """That of the other run."""
        return self.pairs[0][1]

    @property
    def last(self) -> int:
        """The last row at which it differs."""
        return max(int(event["row"]) for event in self.pairs[-1] if event is not None)

    @property
    def lines(self) -> list[tuple[str | None, int | None]]:
        """Where the first event that differs is, in either run."""
        return [(event.get("file"), event.get("line")) for event in self.pairs[0] if event is not None]

    def feeding(self, flow: Flow, lines: Sequence[tuple[str | None, int | None]]) -> Changed:
        """Begin with the first event that is seen to feed one of the lines; unchanged, and without a distance, if none does."""
        for k, pair in enumerate(self.pairs):
            far = [
                flow.distance(event.get("file"), event.get("line"), event.get("func"), *line)
                for event in pair if event is not None for line in lines
            ]  # fmt: skip
            near = [one for one in far if one is not None]
            if near:
                return replace(self, pairs=self.pairs[k:], far=min(near))
        return replace(self, far=None)


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
    reasons: list[Reason]
    seen: Stream
    row: int


def origin(
    kind: Kind, mismatch: Mismatch, lane: LaneTrace, counterpart: LaneTrace, flow: Flow | None = None,
    runs: tuple[Trace, Trace] | None = None,
) -> Origin | None:  # fmt: skip
    """The draw or seed that a mismatch of this kind came from; None if it began at the op itself.

    Where `flow` tells what arrives where in the source, a stream that feeds the lines of the mismatch goes before those that only were
    drawn from later, and a seed that is computed from a draw came from that draw. `runs`, those of the two lanes, tell what other
    threads drew and who seeded what.
    """
    if kind not in DRAWN_FROM_OUTSIDE:
        return None
    changed = _differing(lane, counterpart, mismatch, flow)
    own = (_stream_at(mismatch.row_a, lane) or _stream_at(mismatch.row_b, counterpart)) if kind == "draw" else None
    chosen = next((one for one in changed if one.stream == own), None) if kind == "draw" else _nearest(changed)
    through: list[Changed] = []
    while chosen is not None and flow is not None and chosen.how != "root":
        before = [one for one in (other.feeding(flow, chosen.lines) for other in changed) if one.far is not None and one.how != "extra"]
        earlier = _nearest([one for one in before if one.stream != chosen.stream and one.first["row"] <= chosen.first["row"]])
        if earlier is None or earlier.stream in {one.stream for one in through}:
            break
        through.append(chosen)
        chosen = earlier
    if chosen is None:
        return None
    first, other = chosen.first, chosen.other
    if first["k"] == "draw":
        if kind == "draw" and first["row"] >= mismatch.row_a - 1 and (other is None or other["row"] >= mismatch.row_b - 1):
            return None  # the op is itself the first draw that differs
        if other is not None and other["index"] < first["index"]:
            first, other = other, first
    seen = _stream(chosen.stream, first, other)
    if first["k"] == "seed":
        reasons = [_reason_of_seed(first, other, chosen.stream)]
    else:
        seen.shared = runs is not None and _is_exchanged(seen.name, lane, counterpart, (first, other), runs)
        reasons = [_reason_of_draw(seen, runs)]
    if through:
        last = through[-1].first
        reasons.append(
            Reason.of("made-of-it", stream=through[-1].stream, seed=last["k"] == "seed", file=last.get("file"), line=last.get("line"))
        )
    return Origin(
        chosen.stream, first["function"], first.get("index", mismatch.index), first.get("file"), first.get("line"), first.get("func"),
        first.get("code"), first.get("phase"), first.get("step"), reasons, seen, first["row"],
    )  # fmt: skip


def _nearest(changed: Sequence[Changed]) -> Changed | None:
    """Of streams that differ the one to believe: what is seen to feed the mismatch, what differs by itself, what came last."""
    if not changed:
        return None
    seeds = [one for one in changed if one.how in ("root", "seed") and one.far is not None]
    by_itself = [one for one in seeds if one.how == "root"] or seeds
    if by_itself:
        return min(by_itself, key=lambda one: (one.far, -one.last, one.stream))
    least = [one for one in changed if one.how != "extra"] or changed
    return max(least, key=lambda one: (one.last, one.stream))


def own_stream(mismatch: Mismatch, lane: LaneTrace, counterpart: LaneTrace, runs: tuple[Trace, Trace]) -> Stream | None:
    """The stream that the op of a mismatch draws from itself."""
    draws = [_draw_at(row, which) for which, row in ((lane, mismatch.row_a), (counterpart, mismatch.row_b))]
    met = [{"k": "draw", "row": d["row"], "stream": d["stream"], "state": d["digest"]} for d in draws if d is not None]
    if not met:
        return None
    row = mismatch.record
    name = str(met[0]["stream"])
    shared = _is_exchanged(name, lane, counterpart, met, runs)
    return Stream(name=name, how="draw", function=row.op, file=row.file, line=row.line, shared=shared)


def _stream(name: str, first: dict[str, Any], other: dict[str, Any] | None) -> Stream:
    return Stream(
        name=name, how=first["k"], function=first["function"],
        a=first.get("value"), b=other.get("value") if other else None,
        file=first.get("file"), line=first.get("line"), entropy=bool(first.get("entropy") or (other or {}).get("entropy")),
    )  # fmt: skip


def _reason_of_seed(first: dict[str, Any], other: dict[str, Any] | None, stream: str) -> Reason:
    if other is None:
        return Reason.of("seeded-in-one-run", stream=stream)
    if first.get("entropy") or other.get("entropy"):
        return Reason.of("seeded-from-entropy", stream=stream)
    if first.get("value") == other.get("value"):
        return Reason.of("other-state-set", stream=stream)
    return Reason.of("other-seed", stream=stream, a=first["value"], b=other["value"])


def _reason_of_draw(seen: Stream, runs: tuple[Trace, Trace] | None) -> Reason:
    """In which way the state that a draw met was another one: only what the traces show is said of it."""
    if runs is None:
        return Reason.of("other-state-drawn", stream=seen.name)
    if seen.shared:
        return Reason.of("shared-stream-drawn", stream=seen.name)
    if seen.name.endswith("-own"):
        return Reason.of("own-stream-drawn", stream=seen.name)
    lanes = [lane for run in runs for lane in run.lanes.values()]
    if any(event["stream"] == seen.name and not event.get("entropy") for lane in lanes for event in lane.events_of("seed")):
        return Reason.of("stream-seeded-later", stream=seen.name)
    return Reason.of("stream-never-seeded", stream=seen.name)


def _is_exchanged(
    stream: str, lane: LaneTrace, counterpart: LaneTrace, draws: Sequence[dict[str, Any] | None], runs: tuple[Trace, Trace]
) -> bool:
    """Whether another thread met in one run the state that one of these draws, of the two lanes, met in the other run."""
    met = {(draw["row"], draw["state"]) for draw in draws if draw is not None and draw["k"] == "draw"}
    return any(
        one.lane.name == ours.name and one.draw["stream"] == stream and (one.draw["row"], one.draw["digest"]) in met
        for ours, pair in ((lane, runs), (counterpart, runs[::-1]))
        for one in exchanged_draws(*pair, process=ours)
    )


def differing_streams(lane: LaneTrace, counterpart: LaneTrace, mismatch: Mismatch, flow: Flow | None = None) -> list[Stream]:
    """Each random stream that differs before the mismatch, by its first differing event; then settings that differ.

    A stream from which one run alone drew in the same state is listed only where no other differs: that is what the difference did.
    """
    changed = _differing(lane, counterpart, mismatch, flow)
    shown = [one for one in changed if one.how != "extra"] or changed
    found = [_stream(one.stream, one.first, one.other) for one in shown]
    settings = [_settings(which, row) for which, row in ((lane, mismatch.row_a), (counterpart, mismatch.row_b))]
    for name in sorted(set(settings[0]) | set(settings[1])):
        a, b = settings[0].get(name), settings[1].get(name)
        if a != b:
            found.append(Stream(name=name, how="setting", a=str(a), b=str(b)))
    return found


def _settings(lane: LaneTrace, row: int) -> dict[str, Any]:
    return {event["name"]: event["value"] for event in lane.events_of("setting") if event["row"] <= row}


def _draw_at(row: int, lane: LaneTrace) -> dict[str, Any] | None:
    """The draw of the op at this row."""
    return next((draw for draw in lane.draws if draw["row"] == row - 1), None)


def _stream_at(row: int, lane: LaneTrace) -> str | None:
    """The stream that the op at this row drew from."""
    draw = _draw_at(row, lane)
    return str(draw["stream"]) if draw is not None else None


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


def _without_own(streams: dict[str, list[dict[str, Any]]], row: Record | None) -> None:
    """Leave out the draw that an op makes itself: it stands just before the op, by its name."""
    for events in streams.values():
        last = events[-1]
        if row is not None and (last["k"], last["row"], last["function"]) == ("draw", row.row - 1, row.op):
            events.pop()


def _differing(lane: LaneTrace, counterpart: LaneTrace, mismatch: Mismatch, flow: Flow | None) -> list[Changed]:
    """The streams that differ before a mismatch."""
    ours, theirs = _timeline(lane, mismatch.row_a), _timeline(counterpart, mismatch.row_b)
    if mismatch.kind != "draw":
        # what another op draws than that of the other run is part of the mismatch, and nothing before it
        _without_own(ours, mismatch.a)
        _without_own(theirs, mismatch.b)
    rows = [row for row in (mismatch.a, mismatch.b) if row is not None]
    lines = [(row.file, row.line) for row in rows]
    found = []
    for stream in [*ours, *(s for s in theirs if s not in ours)]:
        changed = _changed(stream, ours.get(stream, []), theirs.get(stream, []))
        if changed is not None:
            found.append(changed.feeding(flow, lines) if flow is not None else changed)
    return found


def _changed(stream: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Changed | None:
    """How the n-th events of a stream differ in two runs, if they do."""
    pairs: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
    extra: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
    how: How | None = None
    for n in range(max(len(ours), len(theirs))):
        x, y = (ours[n] if n < len(ours) else None), (theirs[n] if n < len(theirs) else None)
        if x is None or y is None:
            (pairs if pairs else extra).append((x or y or {}, None))
        elif x["k"] != y["k"]:
            pairs.append((x if x["k"] == "seed" else y, None))  # one run was seeded where the other already drew
        elif x["state"] != y["state"]:
            pairs.append((x, y))
        elif x["function"] != y["function"]:
            extra.append((x, y))  # they do different things with the same stream
        if pairs and how is None:
            first, other = pairs[0]
            if first["k"] == "seed":
                how = "root" if first.get("entropy") or (other or {}).get("entropy") else "seed"
            else:
                how = "root" if n == 0 or stream.endswith("-own") or stream == "os-entropy" else "moved"
    if not pairs and not extra:
        return None
    return Changed(stream, how or "extra", pairs or extra)
