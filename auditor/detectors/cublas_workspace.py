"""CUBLAS_WORKSPACE_CONFIG, which deterministic matrix products on CUDA need: never set, or set too late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_SWITCH = "torch.are_deterministic_algorithms_enabled"
_VARIABLE = "environ:CUBLAS_WORKSPACE_CONFIG"
#: Values that torch accepts as deterministic (Context::checkCuBLASConfigDeterministic).
_GOOD = [":4096:8", ":16:8"]


@dataclass(frozen=True)
class Params:
    """Ops that use cuBLAS, and the fault: determinism is enabled and the variable is never correct, or only after the first product."""

    ops: tuple[str, ...]
    when: Literal["unset", "late"]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per run, where the switch is turned on or where the variable was seen to change."""
    yield from (_unset if params.when == "unset" else _late)(runs[0], list(params.ops))


def _unset(run: Tables, ops: list[str]) -> Iterator[Hit]:
    rows = run.query(
        """WITH switched AS (
            SELECT lane, "row", nth, value, file, line, lead("row") OVER (PARTITION BY lane ORDER BY "row", nth) AS until
            FROM events WHERE kind = 'setting' AND name = ?),
        given AS (
            SELECT count(*) FILTER (WHERE list_contains(?, value)) AS good, last(value ORDER BY "row", nth) AS value
            FROM events WHERE kind = 'setting' AND name = ?)
        SELECT first(s.file ORDER BY s."row", s.nth) AS file,
            first(s.line ORDER BY s."row", s.nth) AS line, count(*) AS times, count(DISTINCT r.step) AS steps,
            first(r.op ORDER BY r."row") AS op, first(r.file ORDER BY r."row") AS used_file, first(r.line ORDER BY r."row") AS used_line,
            any_value(g.value) AS value
        FROM switched s JOIN records r ON r.lane = s.lane AND list_contains(?, r.op) AND r."row" >= s."row"
            AND (s.until IS NULL OR r."row" < s.until)
        CROSS JOIN given g WHERE s.value = 'true' AND g.good = 0 HAVING count(*) > 0""",
        _SWITCH,
        _GOOD,
        _VARIABLE,
        ops,
    )
    for row in rows:
        value = f"is {row['value']}" if row["value"] else "is not set"
        values = {"op": row["op"], "used_at": f"{row['used_file']}:{row['used_line']}", "value": value}
        yield Hit(row["file"], row["line"], values, row["times"])


def _late(run: Tables, ops: list[str]) -> Iterator[Hit]:
    """A change without a line was seen at the end of a step: it came certainly after a product only if a step ended in between."""
    rows = run.query(
        """WITH firsts AS (SELECT lane, arg_min(struct_pack("row", op, file, line), "row") AS used FROM records
            WHERE list_contains(?, op) GROUP BY lane),
        seen AS (
            SELECT f.lane, any_value(f.used) AS used, min(s."row") AS "row" FROM firsts f
            LEFT JOIN events s ON s.kind = 'step' AND s.lane = f.lane AND s."row" > f.used."row" GROUP BY f.lane),
        given AS (
            SELECT *, lag(value) OVER (PARTITION BY lane ORDER BY "row", nth) AS before
            FROM events WHERE kind = 'setting' AND name = ?)
        SELECT g.file, g.line, g.value, s.used.op AS op, s.used.file AS used_file, s.used.line AS used_line
        FROM given g JOIN seen s ON s.lane = g.lane AND g."row" > CASE WHEN g.line IS NULL THEN s."row" ELSE s.used."row" END
        WHERE list_contains(?, g.value) AND NOT coalesce(list_contains(?, g.before), false) ORDER BY g."row" LIMIT 1""",
        ops,
        _VARIABLE,
        _GOOD,
        _GOOD,
    )
    for row in rows:
        values = {"op": row["op"], "used_at": f"{row['used_file']}:{row['used_line']}", "value": row["value"]}
        yield Hit(row["file"], row["line"], values)


DETECTOR = Detector("cublas-workspace", _find, Params, frozenset({"op", "used_at", "value"}))
