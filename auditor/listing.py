"""The contents of one run as rows in execution order, and as a table: `repro-audit show`."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TextIO

from auditor.errors import UsageError
from auditor.report.words.text import plain
from auditor.trace import DRAW, EXTERNAL, OP, PHASES
from auditor.trace.reader import LaneTrace, Trace
from auditor.trace.records import outputs_of
from auditor.trace.schema import EVENTS

#: Kinds of records; the other kinds of rows are rare events.
RECORDS = (OP, EXTERNAL, DRAW)
#: Largest width of a column.
_WIDEST = {"op": 44, "detail": 72, "module": 32, "code": 80}


class Event(NamedTuple):
    """One row: a record or a rare event. `index` counts the lane's ops; a rare event has the index of the next op."""

    lane: str
    index: int  # type: ignore[assignment]  # the word of the trace; nobody looks a row up by value
    kind: str
    name: str
    detail: str
    step: int
    phase: str
    module: str
    file: str
    line: int | None
    code: str


class Listing(NamedTuple):
    """The requested rows, the number of further matches, and why the run may be incomplete."""

    events: list[Event]
    more: int
    unfinished: str | None = None


def listing(
    trace: Trace,
    step: int | None = None,
    op: str | None = None,
    phase: str | None = None,
    file: str | None = None,
    lane: str | None = None,
    kinds: Sequence[str] | None = None,
    limit: int = 200,
) -> Listing:
    """The rows of a run that satisfy all conditions, lane by lane; `op` and `file` are globs.

    A condition on the phase excludes rare events, which have none. Raises `UsageError`: `no-such-kind`, `no-such-phase`, `no-such-lane`.
    """
    for kind in kinds or ():
        _check_known("kind", kind, (*RECORDS, *EVENTS))
    if phase is not None:
        _check_known("phase", phase, PHASES)
    if lane is not None:
        _check_known("lane", lane, tuple(trace.lanes), f" in {trace.path}")
    found: list[Event] = []
    total = 0
    for name, records in trace.lanes.items():
        if lane in (None, name):
            events, matching = _of_lane(records, step, op, phase, file, kinds, limit - len(found))
            found += events
            total += matching
    return Listing(found, total - len(found), f"{trace.id} {_UNFINISHED[trace.unfinished]}" if trace.unfinished else None)


_UNFINISHED = {"still-going": "is still running", "unfinished": "is incomplete: repro-audit was killed before the script ended"}


def _check_known(what: str, given: str, known: tuple[str, ...], where: str = "") -> None:
    if given not in known:
        raise UsageError(f"no-such-{what}", f"--{what} {given}: there is no such {what}{where}; there are {', '.join(known)}")


def _of_lane(
    lane: LaneTrace, step: int | None, op: str | None, phase: str | None, file: str | None, kinds: Sequence[str] | None, limit: int
) -> tuple[list[Event], int]:
    """At most `limit` rows of one lane, and the number of all matches."""
    conditions, values = ["list_contains(?, kind)"], [[kind for kind in RECORDS if not kinds or kind in kinds]]
    parameters: list[object] = list(values)
    for condition, value in (("step = ?", step), ("op GLOB ?", op), ("phase = ?", phase)):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    if file is not None:
        conditions.append("(file GLOB ? OR file GLOB ?)")
        parameters += [file, f"*/{file}"]
    where = " AND ".join(conditions)
    count = lane.query(f"SELECT count(*) AS n FROM records WHERE {where}", *parameters)[0]["n"]  # built from constants only
    rare = [] if phase is not None else _rare(lane, step, op, file, kinds)
    rows = lane.query(
        f'SELECT * FROM records WHERE {where} ORDER BY "row" LIMIT ?',  # as above
        *parameters,
        max(limit, 0),
    )
    # a rare event comes before the record that follows it
    indexes = _indexes(lane, [row for row, _ in rare])
    merged = [((row, 0), event._replace(index=index)) for (row, event), index in zip(rare, indexes, strict=True)]
    merged += [((row["row"], 1), _record(lane.name, row)) for row in rows]
    merged.sort(key=lambda entry: entry[0])
    return [event for _, event in merged[: max(limit, 0)]], count + len(rare)


def _rare(lane: LaneTrace, step: int | None, op: str | None, file: str | None, kinds: Sequence[str] | None) -> list[tuple[int, Event]]:
    """The rare events that satisfy the conditions, each with the row of the next record."""
    found = []
    now = 0
    for event in lane.events:
        kind = event["k"]
        name, detail = _name_and_detail(event)
        row = Event(
            lane.name, 0, kind, name, detail, now, "", "", event.get("file") or "", event.get("line"), event.get("code") or ""
        )  # fmt: skip
        now += kind == "step"
        if not (kind in kinds if kinds else _is_listed(kind)):
            continue
        if (step is not None and row.step != step) or (op is not None and not fnmatchcase(name, op)):
            continue
        if kind == "setting" and event.get("initial") and event.get("value") is None:
            continue  # a variable that is not set
        paths = (row.file, str(event.get("path", "")))
        if file is not None and not any(fnmatchcase(path, glob) for path in paths for glob in (file, f"*/{file}")):
            continue
        found.append((int(event["row"]), row))
    return found


def _indexes(lane: LaneTrace, rows: list[int]) -> list[int]:
    """Index of the op at each of these rows; for the row after the last, that of the next op."""
    if not rows:
        return []
    found = lane.query('SELECT "row", "index" FROM records WHERE list_contains(?, "row")', sorted(set(rows)))
    index_of = {entry["row"]: entry["index"] for entry in found}
    return [index_of.get(row, lane.ops) for row in rows]


def _is_listed(kind: str) -> bool:
    return kind in EVENTS and EVENTS[kind].listed


def _name_and_detail(event: dict[str, Any]) -> tuple[str, str]:
    """Name and detail of a rare event."""
    kind = event["k"]
    if kind == "seed":
        value = "taken from the operating system" if event.get("entropy") else event.get("value")
        return event["function"], f"{event['stream']}" if value is None else f"{event['stream']} = {value}"
    if kind == "setting":
        return event["name"], f"= {event['value']}"
    if kind == "step":
        facts = [event["optimizer"]] if event.get("optimizer") else []
        facts += [f"loss {event['loss']:.6g}"] if isinstance(event.get("loss"), float) else []
        facts += [f"{name} {event[name]:016x}" for name in ("parameters", "gradients") if event.get(name) is not None]
        return f"step {event.get('step')}", "  ".join(facts)
    if kind == "file":
        size = f"  {event['size']:,} {'names' if event['op'] == 'list' else 'bytes'}" if event.get("size") is not None else ""
        digest = f"  {event['digest']:016x}" if event.get("digest") is not None else ""
        return event["op"], f"{event['path']}{size}{digest}"
    if kind == "entered":
        others = "  ".join(f"{key} {value}" for key, value in event.items() if key in ("asked_by", "nth", "thread"))
        return event.get("function") or kind, f"{event['factor']}  {others}"
    if kind == "interrupted":
        return event["op"], "interrupted by an exception: it may have run, but it has no record"
    if kind == "lost":
        return "lost", f"{event['what']} ({event.get('count', 1)})"
    return kind, "  ".join(f"{key} {value}" for key, value in event.items() if key not in ("k", "row", "file", "line", "func", "code"))


def _record(lane: str, row: dict[str, Any]) -> Event:
    if row["kind"] == DRAW:
        detail = f"{row['args']} in state {row['digest']:016x}"
    else:
        outputs = ", ".join(f"{output.dtype}{list(output.shape)}" for output in outputs_of(row["out"]))
        detail = f"{outputs}  {row['digest']:016x}" if row["digest"] else outputs
    if row["forward_line"]:
        detail += f"  forward {row['forward_file']}:{row['forward_line']}"
    return Event(
        lane, row["index"], row["kind"], row["op"] or row["kind"], detail, row["step"], row["phase"] or "", row["module"] or "",
        row["file"] or "", row["line"], row["code"] or "",
    )  # fmt: skip


def print_listing(found: Listing, out: TextIO) -> None:
    """Write the rows as a plain-text table, one line each, suitable for cut and grep."""
    lanes = len({event.lane for event in found.events}) > 1
    titles = [*(["lane"] if lanes else []), "op", "step", "phase", "kind", "name", "detail", "module", "where", "code"]
    rows = [titles]
    for event in found.events:
        where = f"{event.file}:{event.line}" if event.file else ""
        cells = [str(event.index), str(event.step), plain(event.phase), plain(event.kind), plain(event.name, _WIDEST["op"])]
        cells += [plain(event.detail, _WIDEST["detail"]), plain(event.module, _WIDEST["module"])]
        cells += [plain(where), plain(event.code, _WIDEST["code"])]
        rows.append([*([plain(event.lane)] if lanes else []), *cells])
    keep = [k for k in range(len(titles)) if any(row[k] for row in rows[1:])] or list(range(len(titles)))
    widths = {k: max(len(row[k]) for row in rows) for k in keep}
    text = "\n".join("  ".join(row[k].ljust(widths[k]) for k in keep).rstrip() for row in rows)
    encoding = getattr(out, "encoding", None) or "utf-8"
    out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    if found.more:
        out.write(f"and {found.more:,} more: --limit shows more; --step, --op, --phase, --file, --lane and --kind show fewer\n")
    if found.unfinished:
        out.write(f"{plain(found.unfinished)}\n")
