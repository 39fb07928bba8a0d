"""Which factors a difference points to, and the line where a factor entered. Pure: reads what was found and the user's source.

A difference shows at an op; what made it entered before: the clock that was read, the set that was iterated over, the folder that was
listed, the checkpoint that was loaded. Three things tell where. What the recorder saw: draws and seeds, files and folders, and, in reruns,
the readings of clocks, process numbers and the like. What the source says: which of the calls that give another answer in each run feed the
line of the difference. And the kind of the difference. None of this is proof; it says what to try first and, once the runs have shown
which factor it is, which line to name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from auditor.factors import Factor
from auditor.results import Divergence, Kind, Place, Reason
from auditor.source import Spot, calls, listings, unordered
from auditor.trace.lanes import LaneKey
from auditor.trace.reader import LaneTrace, Trace

Factors = Mapping[str, Factor]

#: What a factor says of listings among what it orders.
_LISTING = "listing"
#: Kind of a difference that a GPU's kernels made.
_ON_CUDA = "kernel-on-cuda"


class Entry(NamedTuple):
    """A reading of something that is another one in each run: before which record of its lane, and where."""

    factor: str
    function: str
    row: int
    file: str | None
    line: int | None
    code: str | None


class Suspicion(NamedTuple):
    """Factors, the likeliest first; `founded`: something that was seen points to the first of them, and not the kind alone."""

    factors: tuple[str, ...]
    founded: bool


def entries_of(run: Trace, lane: str) -> list[Entry]:
    """The readings that a rerun saw in a lane; those of the main lane if that one had none."""
    lanes: Iterable[LaneTrace | None] = (run.lanes.get(lane), run.main)
    for found in lanes:
        events = found.events_of("entered") if found is not None else []
        # what a library asks for on its own account rarely goes into the script's numbers
        events = [event for event in events if event.get("asked_by") == "script"] or events
        if events:
            return [
                Entry(event["factor"], event.get("function", ""), event["row"], event.get("file"), event.get("line"), event.get("code"))
                for event in events
            ]
    return []


def suspicion(factors: Factors, divergence: Divergence, entries: Sequence[Entry], read: Callable[[str], str]) -> Suspicion:
    """Which factors a difference points to. `read` gives the text of a file of the user's, empty if there is none."""
    seen = list(_seen(factors, divergence, entries, read))
    kind = _ON_CUDA if divergence.kind == "kernel" and "cuda" in str(divergence.detail.a.get("out", "")) else divergence.kind
    generic = sorted((name for name, factor in factors.items() if kind in factor.kinds), key=lambda name: factors[name].kinds[kind])
    founded = bool(seen) or divergence.kind in ("data-order", "uninitialized")
    return Suspicion(tuple(dict.fromkeys([*seen, *generic])), founded)


def _seen(factors: Factors, divergence: Divergence, entries: Sequence[Entry], read: Callable[[str], str]) -> Iterable[str]:
    """Factors for which something that was seen speaks, in the order in which to believe it."""
    detail = divergence.detail
    lane = LaneKey.parse(divergence.lane)
    origin = detail.origin
    if origin is not None:
        own = _factor_of(factors, origin.name)
        streams = [stream for stream in detail.streams if stream.name != origin.name and stream.how != "setting"]
        others = [_factor_of(factors, stream.name) for stream in streams]
        if origin.how == "seed" and not origin.entropy:
            # the script seeds it itself, with a number that comes from somewhere
            yield from _fed(factors, divergence, entries, read)
            yield from _read_before(divergence, entries)
            yield from others
            yield own
            return
        if origin.shared:
            yield from (name for name, factor in factors.items() if factor.signs.shared_streams)
        if lane.worker is not None:
            yield from (name for name, factor in factors.items() if factor.signs.streams_of_workers)
        yield own
        yield from others
        return
    if divergence.kind == "uninitialized":
        yield from (name for name, factor in factors.items() if factor.signs.unwritten)
    yield from _of_lane(factors, lane, divergence.kind)
    yield from _fed(factors, divergence, entries, read)
    yield from (name for file in detail.files for name, factor in factors.items() if file.what in factor.signs.files)
    yield from (_factor_of(factors, stream.name) for stream in detail.streams if stream.how != "setting")
    yield from _read_before(divergence, entries)


def _factor_of(factors: Factors, stream: str) -> str:
    fitting = [(len(start), name) for name, factor in factors.items() for start in factor.streams if stream.startswith(start)]
    return max(fitting)[1]


def _of_lane(factors: Factors, lane: LaneKey, kind: Kind) -> Iterable[str]:
    """Factors that are suspected first in a lane of its role: that of a worker before that of a thread."""
    for role, has in (("worker", lane.worker is not None), ("thread", lane.thread is not None)):
        kinds = {name: factor.signs.lanes[role] for name, factor in factors.items() if role in factor.signs.lanes}
        found = [name for name, some in kinds.items() if has and (not some or kind in some)]
        if found:
            return found
    return []


def _fed(factors: Factors, divergence: Divergence, entries: Sequence[Entry], read: Callable[[str], str]) -> Iterable[str]:
    """Factors whose functions, in the source, feed the line of the difference; nearest first."""
    here = _here(divergence)
    if here.file is None or here.line is None:
        return
    source, line = read(here.file), here.line
    read_by = {entry.factor for entry in entries}
    asked = [factor for name, factor in factors.items() if not entries or not factor.each_call or name in read_by]
    found = [(spot, factor.name) for factor in asked for spot in _feeding(factor, source, line)]
    ordering = sorted((factor for factor in factors.values() if factor.signs.orders), key=lambda factor: factor.order)
    spots = [(spot, _LISTING) for spot in listings(source, line)] + [(spot, spot.what) for spot in unordered(source, line)]
    found += [(spot, factor.name) for spot, what in spots if spot.feeds for factor in ordering if what in factor.signs.orders]
    yield from (factor for _, factor in sorted(found, key=lambda one: abs(one[0].line - line)))


def _here(divergence: Divergence) -> Place:
    """The line of the difference: that of the op, or that which raised the error."""
    raised = divergence.detail.raised
    return raised or Place(file=divergence.file, line=divergence.line, function=divergence.function, code=divergence.code)


def _feeding(factor: Factor, source: str, line: int) -> list[Spot]:
    return [spot for spot in calls(source, factor.calls, line) if spot.feeds] if factor.calls else []


def _read_before(divergence: Divergence, entries: Sequence[Entry]) -> Iterable[str]:
    """Factors that were read before the difference, the last first."""
    row = divergence.detail.row
    yield from (entry.factor for entry in reversed(entries) if row is None or entry.row <= row)


def entered_at(
    factors: Factors, name: str, divergence: Divergence, entries: Sequence[Entry], read: Callable[[str], str], others: Sequence[str] = ()
) -> tuple[Place, Reason]:  # fmt: skip
    """The line where the factor of this name entered that was shown to make this difference, and what is done there.

    `others` are further files of the user's, in which a set may be iterated over.
    """
    factor, detail = factors[name], divergence.detail
    here = _here(divergence)
    if factor.signs.orders:
        found = _in_source(factor, here, read, others)
        if found is not None:
            return found
    listed = [file for file in detail.files if file.what in factor.signs.files and file.file]
    if listed:
        doing = Reason.of("folder-listed" if listed[0].op == "list" else "file-read", path=listed[0].path)
        return _place(listed[0].file, listed[0].line, read), doing
    if factor.signs.unwritten and detail.allocated is not None and detail.allocated.file:
        return detail.allocated, Reason.of("memory-made")
    entry = _entry(factor, divergence, entries, read)
    if entry is not None:
        return Place(file=entry.file, line=entry.line, code=entry.code), Reason.of("function-called", function=entry.function)
    if factor.calls and here.file is not None and here.line is not None:
        spots = _feeding(factor, read(here.file), here.line)
        if spots:
            return _place(here.file, spots[0].line, read), Reason.of("function-called", function=spots[0].what)
    stream = next(
        (one for one in detail.streams if one.how != "setting" and one.line is not None and _factor_of(factors, one.name) == name), None
    )
    if stream is not None and (detail.origin is None or _factor_of(factors, detail.origin.name) != name):
        return _place(stream.file, stream.line, read), Reason.of("stream-touched", function=stream.function)
    if factor.numerical and detail.forward is not None:
        return detail.forward, Reason.of("op-from-forward", op=divergence.op)
    if detail.raised is not None:
        return here, Reason.of("script-fails")
    drawn = detail.origin is not None and detail.origin.how == "draw"
    if divergence.op == "external":
        return here, Reason.of("tensor-made")
    return here, Reason.of("op-draws" if drawn else "op-called", op=divergence.op)


def _entry(factor: Factor, divergence: Divergence, entries: Sequence[Entry], read: Callable[[str], str]) -> Entry | None:
    """The last reading before the difference, of those in lines that feed it if there are such."""
    row = divergence.detail.row
    before = [entry for entry in entries if entry.factor == factor.name and entry.line is not None and (row is None or entry.row <= row)]
    if not before:
        return None
    if divergence.file is not None and divergence.line is not None and factor.calls:
        lines = {spot.line for spot in _feeding(factor, read(divergence.file), divergence.line)} | {divergence.line}
        feeding = [entry for entry in before if entry.file == divergence.file and entry.line in lines]
        before = feeding or before
    return before[-1]


def _in_source(factor: Factor, here: Place, read: Callable[[str], str], others: Sequence[str]) -> tuple[Place, Reason] | None:
    """Where the source iterates over what has no order: what feeds the line, or the only such place of all files."""
    lists = _LISTING in factor.signs.orders
    what: Callable[[str, int], list[Spot]] = listings if lists else unordered
    if here.file is None or here.line is None:
        return None
    spots = what(read(here.file), here.line)
    fitting = [spot for spot in spots if lists or spot.what in factor.signs.orders]
    if fitting and (fitting[0].feeds or len(fitting) == 1):
        return _place(here.file, fitting[0].line, read), Reason.of("code-listed" if lists else "code-ordered", code=fitting[0].text)
    elsewhere = [(file, spot) for file in others if file != here.file for spot in what(read(file), 1 << 30)]
    if not fitting and len(elsewhere) == 1:
        file, spot = elsewhere[0]
        return _place(file, spot.line, read), Reason.of("code-listed" if lists else "code-ordered", code=spot.text)
    return None


def _place(file: str | None, line: int | None, read: Callable[[str], str]) -> Place:
    lines: list[Any] = read(file).splitlines() if file is not None else []
    return Place(file=file, line=line, code=lines[line - 1].strip() if line is not None and 0 < line <= len(lines) else None)
