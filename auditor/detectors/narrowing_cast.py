"""External numbers that are cast to a narrower floating dtype, and so rounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """From which dtype to which others; `carriers` are ops (globs) that pass their inputs on, such as collating a batch."""

    source: str
    targets: tuple[str, ...]
    casts: tuple[str, ...]
    carriers: tuple[str, ...]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line that casts external numbers that nothing has computed with.

    After computing in the wide dtype, the cast at the end is intended. Single numbers give no hit, nor do backward passes and optimizers,
    which take no external data. The source of the cast is its last input: the first input of `copy_` is its destination.

    A line whose casts were measured and changed no number rounds nothing. A cast that made numbers infinite, or all of them 0, is worse
    than rounding and has its own rule.
    """
    carries = " OR ".join("op GLOB ?" for _ in params.carriers) or "false"
    casts = " OR ".join("op GLOB ?" for _ in params.casts) or "false"
    marks = ", ".join("?" for _ in params.targets) or "NULL"
    rows = runs[0].query(
        f"""WITH RECURSIVE outs AS (
            SELECT DISTINCT out, json_extract_string(out, '$[0][0]') AS dtype, json_extract_string(out, '$[0][1]') AS shape
            FROM records WHERE out IS NOT NULL),
        wide AS MATERIALIZED (
            SELECT r.lane, r."row", r.kind, r.op, r.in0, r.file, r.line, o.shape FROM records r JOIN outs o ON o.out = r.out
            WHERE o.dtype = ? AND (r.kind = 'external' OR {carries})),
        outside AS (
            SELECT lane, "row", shape, file, line FROM wide WHERE kind = 'external'
            UNION
            SELECT w.lane, w."row", w.shape, o.file, o.line FROM wide w JOIN outside o ON o.lane = w.lane AND o."row" = w.in0
            WHERE w.kind = 'op')
        SELECT c.file, c.line, count(*) AS casts, first(c.op ORDER BY c.lane, c."row") AS op,
            first(t.dtype ORDER BY c.lane, c."row") AS dtype, first(t.shape ORDER BY c.lane, c."row") AS shape,
            first(s.file ORDER BY c.lane, c."row") AS from_file, first(s.line ORDER BY c.lane, c."row") AS from_line,
            sum(m."values") AS measured, sum(m.changed) AS changed, max(m.largest) AS largest, sum(m.vanished) AS vanished
        FROM records c JOIN outs t ON t.out = c.out JOIN outside s ON s.lane = c.lane AND s."row" = coalesce(c.in1, c.in0)
        LEFT JOIN measured m ON m.lane = c.lane AND m."row" = c."row" AND m.what = 'cast'
        WHERE c.kind = 'op' AND ({casts}) AND t.dtype IN ({marks}) AND t.shape <> '[]' AND c.phase NOT IN ('backward', 'optimizer')
        GROUP BY c.file, c.line
        HAVING sum(m.changed) IS NULL OR sum(m.changed) > 0
            AND coalesce(sum(m.overflowed), 0) = 0 AND NOT coalesce(bool_or(m.vanished = m."values"), false)
        ORDER BY c.file, c.line""",
        params.source,
        *params.carriers,
        *params.casts,
        *params.targets,
    )
    for row in rows:
        here = (row["from_file"], row["from_line"]) == (row["file"], row["line"]) or row["from_line"] is None
        values = {
            "source": params.source, "dtype": row["dtype"], "shape": row["shape"].replace(",", ", "), "op": row["op"], "error": _error(row),
            "seen": "" if here else f" (first seen in {row['from_file']}:{row['from_line']})",
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["casts"])


def _error(row: dict[str, Any]) -> str:
    """The measured change, for the end of a sentence; empty if nothing was measured."""
    if row["measured"] is None:
        return ""
    size = "" if row["largest"] is None else f", by up to {row['largest']:.1e} of their size"
    lost = f"; {row['vanished']:,} of them become 0" if row["vanished"] else ""
    return f": {row['changed']:,} of {row['measured']:,} numbers change{size}{lost}"


DETECTOR = Detector("narrowing-cast", _find, Params, frozenset({"source", "dtype", "shape", "op", "seen", "error"}))
