"""Ops that a rule lists, reported while certain switches have certain values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from auditor.detectors import Detector, Hit, named
from auditor.trace.records import outputs_of

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Op:
    """An op (a glob), the dtypes that its first result may have (globs), and the switches.

    The op is reported if all switches of `when` have one of their values (globs) where it runs, and none of `unless` has. A switch that
    the run did not record has no value: an op that needs it is not reported.
    """

    op: str
    dtypes: tuple[str, ...] = ("*",)
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Params:
    """Which ops. `in_module`: only inside a module, whose device is that of its parameters."""

    ops: tuple[Op, ...]
    in_module: bool = False


class Change(NamedTuple):
    """From this row on a switch has this value; `first`: the value when torch was imported; `own`: recorded in this lane."""

    row: int
    value: str
    first: bool
    own: bool


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line (for backward ops the line of the forward op), with all its ops and the switches that apply."""
    run = runs[0]
    seen = run.query("SELECT op, out FROM records WHERE kind = 'op' GROUP BY op, out")
    wanted = [(nth, row["op"], row["out"]) for nth, one in enumerate(params.ops) for row in seen if _fits(one, row["op"], row["out"])]
    spans = [(nth, *span) for nth in sorted({nth for nth, _, _ in wanted}) for span in _spans(run, params.ops[nth])]
    if not spans:
        return
    rows = run.query(
        """WITH wanted AS (SELECT unnest(?::BIGINT[]) AS nth, unnest(?::VARCHAR[]) AS op, unnest(?::VARCHAR[]) AS out),
        spans AS (
            SELECT unnest(?::BIGINT[]) AS nth, unnest(?::VARCHAR[]) AS lane, unnest(?::BIGINT[]) AS since,
                unnest(?::VARCHAR[]) AS switches),
        uses AS (
            SELECT r.lane, r."row", r.step, r.op, coalesce(r.forward_file, r.file) AS at_file, coalesce(r.forward_line, r.line) AS at_line,
                first(s.switches ORDER BY s.nth) AS switches
            FROM records r JOIN wanted w ON w.op = r.op AND w.out = r.out
            ASOF JOIN spans s ON s.nth = w.nth AND s.lane = r.lane AND r."row" >= s.since
            WHERE s.switches IS NOT NULL AND r.kind = 'op' AND (NOT ? OR r.module IS NOT NULL) GROUP BY ALL)
        SELECT at_file, at_line, op, switches, count(*) AS times, count(DISTINCT step) AS steps, min("row") AS moment FROM uses
        GROUP BY at_file, at_line, op, switches ORDER BY moment, op""",
        *map(list, zip(*wanted, strict=True)),
        *map(list, zip(*spans, strict=True)),
        params.in_module,
    )
    places: dict[tuple[str | None, int | None], list[dict[str, object]]] = {}
    for row in rows:
        places.setdefault((row["at_file"], row["at_line"]), []).append(row)
    for (file, line), uses in places.items():
        ops = sorted({".".join(str(row["op"]).split(".")[:2]) for row in uses})
        switches = sorted({str(row["switches"]) for row in uses if row["switches"]})
        values: dict[str, object] = {"ops": named(ops, len(ops) + 1, "op"), "switches": " and ".join(switches)}
        yield Hit(file, line, values, sum(int(str(row["times"])) for row in uses), max(int(str(row["steps"])) for row in uses))


def _fits(one: Op, op: str, out: str | None) -> bool:
    """Whether a rule lists an op of this name whose first result has this dtype."""
    if out is None or not fnmatchcase(op, one.op):
        return False
    dtype = next((output.dtype for output in outputs_of(out)), "")
    return any(fnmatchcase(dtype, wanted) for wanted in one.dtypes)


def _spans(run: Tables, op: Op) -> Iterator[tuple[str, int, str | None]]:
    """From which row on the switches of a lane meet the condition of an op, and those in words; None: from there on they do not."""
    names = [*op.when, *op.unless]
    changes = _changes(run, names)
    for row in run.query("SELECT DISTINCT lane FROM lanes ORDER BY lane"):
        lane = str(row["lane"])
        own = {name: changes.get((lane, name), []) for name in names}
        if any(not of[0].own and len({change.value for change in of}) > 1 for of in own.values() if of):
            continue  # a thread, whose lane does not record when the switch of its process changed
        rows = {name: [change.row for change in history] for name, history in own.items()}
        before: tuple[str | None, ...] = ()
        for since in sorted({0, *(row for of in rows.values() for row in of)}):
            now = {name: history[at - 1] for name, history in own.items() if (at := bisect_right(rows[name], since))}
            meant = all(_is_one_of(now.get(name), values) for name, values in op.when.items())
            meant = meant and not any(_is_one_of(now.get(name), values) for name, values in op.unless.items())
            switches = ", ".join(_told(name, now[name]) for name in op.when) if meant else None
            if before != (switches,):
                yield lane, since, switches
            before = (switches,)


def _changes(run: Tables, names: list[str]) -> dict[tuple[str, str], list[Change]]:
    """The values that switches had for a lane, in order."""
    found: dict[tuple[str, str], list[Change]] = {}
    rows = run.query(
        """SELECT lane, name, value, "row", coalesce(initial, false) AS initial, far = 0 AS own FROM switches
        WHERE list_contains(?::VARCHAR[], name) ORDER BY lane, "row", nth""",
        names,
    )
    for row in rows:
        value = "" if row["value"] in (None, "null") else str(row["value"])
        found.setdefault((row["lane"], row["name"]), []).append(
            Change(row["row"] if row["own"] and not row["initial"] else 0, value, row["initial"], row["own"])
        )
    return found


def _is_one_of(change: Change | None, values: Sequence[str]) -> bool:
    return change is not None and change.value != "" and any(fnmatchcase(change.value, value) for value in values)


def _told(name: str, change: Change) -> str:
    return f"{name} is {change.value}{' from the start' if change.first else ''}"


DETECTOR = Detector("conditional-op", _find, Params, frozenset({"ops", "switches"}))
