"""A run as tables, for questions in SQL: `records` and `events` of every lane, and `all` that happened, both in one.

For questions about the flow of values, `uses` has each input of each op (`used` is the `row` of the record that wrote it; what is
overwritten unread is no input, see `records.inputs_of`), and `gradients`
each time that the gradient of a leaf was set or, if `before` is not null, added to what that record wrote; `made` wrote what came of it.
`module_rows` has the records of each `call` of a module that no other module called; `root` is the first part of its path. `writes` has the
ops that write into the memory of their first input.

`autocast_regions` has each time that a region was entered, with the `nth` of the event that left it; `autocast_changes` has, from an event
on, the `entered` of the innermost region (null: none), and `autocast_rows` the same from a record on.

`held` has the tensors of each optimizer, with what they are called and the `row` that had last written each at its first step; `measured`
has what an op did to the numbers, see `record/core/measures.py`; `nonfinite` the results that are not all finite, of a run that looked
for them; `unseen` the leaves that changed between two of their gradients though no recorded op wrote them.

`switches` has, for each lane, the `setting` events of its own or, where it has none of that name, of the nearest lane that speaks for it
(`far` > 0: the process's others, its main thread first, then those of the process that it was forked from); their `row` is then not one of
this lane. `lanes` says whose the lanes are: a producer below -1 is -2 less `base` and `record` of a row in another lane of the same `pid`.

What happens while a library is imported is the library's own: it has no line here, and neither has what happens in a launcher's process.

`records` has the columns of `schema.COLUMNS` and `lane`, `events` those of `schema.EVENT_COLUMNS`, a `step` and a `phase`. In `all`, a
field that only one of the two has is null for the other. An event stands before the record of its `row`, and before the events of a larger
`nth`: the order of a lane is `ORDER BY "row", nth NULLS LAST`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from auditor.errors import TraceError, UsageError
from auditor.trace.database import connected
from auditor.trace.files import in_database
from auditor.trace.ops import IN_PLACE, OVERWRITING, WRITING_NOTHING
from auditor.trace.schema import COLUMNS, EVENT_COLUMNS
from auditor.trace.shapes import in_utf8

if TYPE_CHECKING:
    import duckdb

    from auditor.trace.reader import LaneTrace, Trace

_T = TypeVar("_T")

_OF_EVENTS = {name: column.type for name, column in EVENT_COLUMNS.items()}
#: The columns of `records` where there are none: in a run without lanes, and those that an earlier version did not write.
_COLUMNS = ", ".join(f'NULL::{column.type} AS "{name}"' for name, column in COLUMNS.items())
_NO_RECORDS = f"SELECT NULL::VARCHAR AS lane, {_COLUMNS} WHERE false"

_USES = """CREATE TEMP VIEW uses AS
    SELECT lane, "row", op, in_place, phase, file, line, used FROM (
        SELECT *, unnest(CASE WHEN overwrites THEN [in1, in2] ELSE [in0, in1, in2] END) AS used FROM records
        WHERE inputs IS NULL AND in0 IS NOT NULL
        UNION ALL SELECT *, unnest(CAST(string_split(inputs, ' ') AS BIGINT[])[CASE WHEN overwrites THEN 2 ELSE 1 END:]) AS used
        FROM records WHERE inputs IS NOT NULL)
    WHERE used >= 0"""

_GRADIENTS = """CREATE TEMP VIEW gradients AS
    SELECT lane, "row", leaf, leaf_written, step, file, line, op, CASE WHEN op GLOB 'aten.add*' THEN in0 END AS before,
        CASE WHEN op GLOB 'aten.detach*' THEN in0 ELSE "row" END AS made
    FROM records WHERE phase = 'backward' AND leaf IS NOT NULL"""

_MODULE_ROWS = """CREATE TEMP VIEW module_rows AS
    WITH inside AS (
        SELECT lane, "row", split_part(module, '.', 1) AS root,
            coalesce(lag("row") OVER w <> "row" - 1 OR lag(split_part(module, '.', 1)) OVER w <> root, true) AS begins
        FROM records WHERE module IS NOT NULL AND phase IN ('setup', 'forward') WINDOW w AS (PARTITION BY lane ORDER BY "row"))
    SELECT lane, "row", root, sum(begins::INT) OVER (PARTITION BY lane ORDER BY "row") AS call FROM inside"""

_WRITES = """CREATE TEMP VIEW writes AS
    SELECT lane, "row", record, op, phase, in0, out, file, line, code FROM records WHERE kind = 'op' AND in_place AND NOT view"""

#: What the descriptors of an older run do not say of an op is told by its name, see `records.schema_by_name`.
_BY_NAME = f"""REPLACE (
    coalesce(in_place, kind = 'op' AND regexp_matches(op, '{IN_PLACE}')) AS in_place,
    coalesce(view, kind = 'op' AND split_part(op, '.', 2) IN {WRITING_NOTHING}) AS view,
    coalesce(overwrites, kind = 'op' AND ({" OR ".join(f"starts_with(op, '{name}')" for name in OVERWRITING)})) AS overwrites)"""

_SWITCHES = """CREATE TEMP VIEW switches AS
    SELECT k.lane, k.far, e.* EXCLUDE (lane) FROM kin k JOIN events e ON e.lane = k."of" AND e.kind = 'setting'
    QUALIFY k.far = min(k.far) OVER (PARTITION BY k.lane, e.name)"""

#: The regions of a lane are a stack: one is left by the next leaving at its depth.
_AUTOCAST = (
    """CREATE TEMP VIEW autocast_regions AS
    WITH marks AS (
        SELECT lane, nth, op, device, dtype, enabled, file, line,
            sum(CASE op WHEN 'enter' THEN 1 ELSE -1 END) OVER (PARTITION BY lane ORDER BY nth) + CAST(op = 'leave' AS INT) AS depth
        FROM events WHERE kind = 'autocast' AND op IN ('enter', 'leave'))
    SELECT lane, depth, nth AS entered, device, dtype, enabled, file, line, "left" FROM (
        SELECT *, CASE lead(op) OVER w WHEN 'leave' THEN lead(nth) OVER w END AS "left"
        FROM marks WINDOW w AS (PARTITION BY lane, depth ORDER BY nth))
    WHERE op = 'enter'""",
    """CREATE TEMP VIEW autocast_changes AS
    WITH marks AS (
        SELECT lane, "row", nth, op,
            sum(CASE op WHEN 'enter' THEN 1 ELSE -1 END) OVER (PARTITION BY lane ORDER BY nth) + CAST(op = 'leave' AS INT) AS depth
        FROM events WHERE kind = 'autocast' AND op IN ('enter', 'leave'))
    SELECT m.lane, m."row", m.nth, CASE m.op WHEN 'enter' THEN m.nth ELSE r.entered END AS entered
    FROM marks m ASOF LEFT JOIN autocast_regions r ON r.lane = m.lane AND r.depth = m.depth - 1 AND m.nth > r.entered""",
    """CREATE TEMP VIEW autocast_rows AS
    SELECT * FROM autocast_changes QUALIFY row_number() OVER (PARTITION BY lane, "row" ORDER BY nth DESC) = 1""",
)

#: Bytes of the records of a run that is read into memory.
_SMALL = 1 << 20

#: The columns that say which line of the user's it was.
_PLACE = ("file", "line", "function", "code")

_NO_ROWS = ("handed", "came", "task", "loaded", "unseen-write", "child", "value", "level", "lost", "measured", "nonfinite")

_SIDE_TABLES = {
    "lanes": {"lane": "VARCHAR", "pid": "BIGINT", "base": "BIGINT", "role": "VARCHAR", "rank": "VARCHAR"},
    "unseen": {"lane": "VARCHAR", "leaf": "VARCHAR"},
    "kin": {"lane": "VARCHAR", "of": "VARCHAR", "far": "BIGINT"},
    "held": {"lane": "VARCHAR", "optimizer": "BIGINT", "class": "VARCHAR", "leaf": "VARCHAR", "row": "BIGINT"},
    "measured": {
        "lane": "VARCHAR", "row": "BIGINT", "what": "VARCHAR", "values": "BIGINT", "changed": "BIGINT", "largest": "DOUBLE",
        "absolute": "DOUBLE", "overflowed": "BIGINT", "vanished": "BIGINT", "of": "BIGINT",
    },
    "nonfinite": {"lane": "VARCHAR", "row": "BIGINT", "nans": "BIGINT", "infinities": "BIGINT", "given": "BOOLEAN"},
}  # fmt: skip


class Tables:
    """The tables of one run, on a connection of their own that holds no more of a large run than a question needs.

    With `held` all is copied into memory, as a small run is anyway, and the connection locked: for questions that may be anybody's.
    """

    def __init__(self, run: Trace, held: bool = False, looked: Trace | None = None) -> None:
        """Define the tables; `nonfinite` is of `looked`, a run that did the same. Raises TraceError `trace-unreadable`."""
        self.run = run
        self._con = connected(alone=held)  # its settings are of the whole database
        self._ask(lambda: _define(self._con, run, held or _is_small(run), looked))
        if held:
            self._con.execute("SET enable_external_access = false; SET lock_configuration = true")

    def __enter__(self) -> Tables:
        """Use the tables until the end of a block."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Let them go."""
        self._con.close()

    def query(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of a SELECT as dicts; `sql` is ours, `parameters` may be anybody's. Raises TraceError `trace-unreadable`."""

        def rows() -> list[dict[str, Any]]:
            relation = self._con.execute(sql, [*map(in_utf8, parameters)])
            names = [column[0] for column in relation.description or ()]
            return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]

        return self._ask(rows)

    def answer(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Names and rows of one SELECT of anybody's. Raises UsageError `bad-query`."""
        import duckdb

        try:
            statements = self._con.extract_statements(in_utf8(sql))
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise UsageError("bad-query", 'a question is one SELECT over the tables records, events and "all"')
            relation = self._con.execute(statements[0])
            return [column[0] for column in relation.description or ()], relation.fetchall()
        except duckdb.Error as error:
            raise UsageError("bad-query", f"the question cannot be answered: {error}") from error

    def code_at(self, file: str, line: int) -> str | None:
        """The text of a line of the user's as it was when the run was sealed."""
        found = self.query('SELECT code FROM "all" WHERE file = ? AND line = ? AND code IS NOT NULL LIMIT 1', file, line)
        return str(found[0]["code"]) if found else None

    def _ask(self, question: Callable[[], _T]) -> _T:
        import duckdb

        try:
            return question()
        except (duckdb.Error, ValueError, OverflowError) as error:
            self._con.close()
            raise TraceError("trace-unreadable", f"{self.run.path} cannot be read: {str(error).splitlines()[0]}") from error
        except RuntimeError as error:
            if str(error) != "Query interrupted":
                raise
            raise KeyboardInterrupt from error  # DuckDB drops the exception of the signal's handler


def _is_small(run: Trace) -> bool:
    """Whether a run is soon read: then the files are opened once and not for each of some hundred questions."""
    try:
        return sum(lane.path.with_suffix(".parquet").stat().st_size for lane in run.lanes.values()) <= _SMALL
    except OSError:
        return False  # whoever reads it says so


def _define(con: duckdb.DuckDBPyConnection, run: Trace, copied: bool, looked: Trace | None) -> None:
    columns = ", ".join(f'"{name}" {kind}' for name, kind in _OF_EVENTS.items())
    con.execute(f"CREATE TEMP TABLE raw_events ({columns})")
    side: dict[str, list[dict[str, Any]]] = {name: [] for name in _SIDE_TABLES}
    for lane in run.lanes.values():
        _add(con, "raw_events", _OF_EVENTS, [_row(e, nth, lane.name) for nth, e in enumerate(lane.events) if e["k"] not in _NO_ROWS])
        for name, rows in _beside(lane).items():
            side[name] += rows
    side["kin"] = _kin(run)
    if looked is not None:
        side["nonfinite"] = [row for lane in looked.lanes.values() for row in _beside(lane)["nonfinite"]]
    for name, types in _SIDE_TABLES.items():
        con.execute(f"CREATE TEMP TABLE {name} ({', '.join(f'{_quoted(column)} {kind}' for column, kind in types.items())})")
        _add(con, name, types, side[name])
    parts = [
        f"SELECT {_text(in_utf8(lane.name))} AS lane, *{_without_imports(lane)} "
        f"FROM read_parquet({_text(in_database(lane.path.with_suffix('.parquet')))})"
        for lane in run.lanes.values()
    ]
    every = " UNION ALL BY NAME ".join([*parts, _NO_RECORDS])
    con.execute(f"CREATE TEMP {'TABLE' if copied else 'VIEW'} records AS SELECT * {_BY_NAME} FROM ({every})")
    con.execute(_USES)
    con.execute(_GRADIENTS)
    con.execute(_MODULE_ROWS)
    con.execute(_WRITES)
    con.execute(
        """CREATE TEMP TABLE events AS
        SELECT e.* EXCLUDE (of_step), coalesce(e.of_step, r.step) AS step, r.phase FROM raw_events e
        LEFT JOIN (SELECT lane, max("row") AS last FROM records GROUP BY lane) l ON l.lane = e.lane
        LEFT JOIN records r ON r.lane = e.lane AND r."row" = least(e."row", l.last)"""
    )
    con.execute("DROP TABLE raw_events")
    con.execute(_SWITCHES)
    for view in _AUTOCAST:
        con.execute(view)
    con.execute(
        """CREATE TEMP VIEW "all" AS
        SELECT lane, "row", kind, op, CASE kind WHEN 'draw' THEN args END AS stream,
            CASE kind WHEN 'draw' THEN printf('%x', digest) END AS state, args, numbers, out, module, phase, step, file, line, function,
            code, forward_file, forward_line, forward_code
        FROM records UNION ALL BY NAME SELECT * FROM events"""
    )


def _without_imports(lane: LaneTrace) -> str:
    """What takes the line from the records of a lane that were written while a library was imported."""
    sites = ", ".join(str(int(number)) for number in lane.facts.get("importing") or ())
    if not sites:
        return ""
    return f" REPLACE ({', '.join(f'CASE WHEN site NOT IN ({sites}) THEN {name} END AS {name}' for name in _PLACE)})"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return f'"{name}"'


def _add(con: duckdb.DuckDBPyConnection, table: str, types: dict[str, str], rows: list[dict[str, Any]]) -> None:
    import numpy as np

    if not rows:
        return
    con.register("added", {name: np.array([in_utf8(row.get(name)) for row in rows], object) for name in types})
    con.execute(f"INSERT INTO {table} SELECT {', '.join(f'CAST({_quoted(n)} AS {kind})' for n, kind in types.items())} FROM added")
    con.unregister("added")


def _beside(lane: LaneTrace) -> dict[str, list[dict[str, Any]]]:
    """The rows of the side tables; those of a record stand behind it."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in _SIDE_TABLES}
    role = lane.facts.get("role") or {}
    process = "process" if lane.key.process is not None and lane.key.rank is None else "main"
    whose = next((part for part in ("worker", "thread") if part in role), process)
    found["lanes"].append(
        {"lane": lane.name, "pid": lane.facts.get("pid"), "base": lane.facts.get("base"), "role": whose, "rank": lane.key.rank}
    )
    for event in lane.events:
        kind = event["k"]
        if kind in ("measured", "nonfinite"):
            found[kind].append({**event, "lane": lane.name, "row": event["row"] - 1})
        elif kind == "unseen-write":
            found["unseen"].append({"lane": lane.name, "leaf": event.get("leaf")})
        elif kind == "optimizer":
            names, written = event.get("leaves") or [], event.get("written") or []
            for leaf, row in zip(names, written, strict=False):
                found["held"].append(
                    {"lane": lane.name, "optimizer": event.get("number"), "class": event.get("name"), "leaf": leaf, "row": row}
                )
    return found


def _number(value: object) -> str | None:
    """A number as text: an object that is nan would be taken for null."""
    return repr(float(value)) if isinstance(value, (int, float)) else None


def _kin(run: Trace) -> list[dict[str, Any]]:
    """The lanes that speak for a lane where it is silent itself, the nearest first."""
    by_pid: dict[object, list[LaneTrace]] = {}
    for lane in run.lanes.values():
        by_pid.setdefault(lane.facts.get("pid"), []).append(lane)
    rows = []
    for lane in run.lanes.values():
        pid, nearest = lane.facts.get("pid"), [lane]
        asked: set[object] = {None}
        while pid not in asked:
            asked.add(pid)
            others = sorted(by_pid.get(pid, []), key=lambda one: "thread" in (one.facts.get("role") or {}))
            nearest += [one for one in others if one is not lane]
            pid = others[0].facts.get("parent") if others else None
        rows += [{"lane": lane.name, "of": other.name, "far": far} for far, other in enumerate(nearest)]
    return rows


def _row(event: dict[str, Any], nth: int, lane: str) -> dict[str, Any]:
    kind = event["k"]
    value = event.get("value")
    place: dict[str, Any] = {} if event.get("importing") else event
    return {
        "lane": lane, "row": event["row"], "nth": nth, "kind": kind, "op": event.get("op") or event.get("function"),
        "stream": event.get("stream"),
        "name": event.get("name"), "factor": event.get("factor"), "loss": _number(event.get("loss")),
        "value": value if value is None or isinstance(value, str) else json.dumps(value),
        "path": event.get("path"), "mode": event.get("mode"), "asked_by": event.get("asked_by"), "unknown": event.get("unknown"),
        "state": f"{event['state']:x}" if isinstance(event.get("state"), int) else None,
        "content": f"{event['digest']:x}" if isinstance(event.get("digest"), int) else None, "own": event.get("own"),
        "of_step": event.get("step"),
        "optimizer": event.get("number") if kind != "step" else event.get("of"), "gradients": event.get("had"), "root": event.get("root"),
        "entropy": event.get("entropy"), "initial": event.get("initial"), "graph": event.get("graph"),
        "enabled": event.get("enabled"), "device": event.get("device"), "dtype": event.get("dtype"),
        "file": place.get("file"), "line": place.get("line"), "function": place.get("func"), "code": place.get("code"),
    }  # fmt: skip
