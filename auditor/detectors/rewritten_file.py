"""A file that a run reads and also writes: the next run finds what this one left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """`read-first`: it was read before this run wrote it; `written-first`: the run read back its own file."""

    order: Literal["read-first", "written-first"]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per file, at the line that reads it."""
    rows = runs[0].query(
        """WITH uses AS (
            SELECT path, op, own, file, line, "row" * 1000000 + nth AS moment FROM events WHERE kind = 'file' AND op IN ('read', 'write')),
        firsts AS (
            SELECT path, min(moment) FILTER (WHERE op = 'read') AS first_read, min(moment) FILTER (WHERE op = 'write') AS first_write
            FROM uses GROUP BY path)
        SELECT f.path, coalesce(NOT r.own, f.first_read < f.first_write) AS read_first, r.file, r.line,
            w.file AS written_file, w.line AS written_line
        FROM firsts f JOIN uses r ON r.path = f.path AND r.moment = f.first_read AND r.op = 'read'
        JOIN uses w ON w.path = f.path AND w.moment = f.first_write AND w.op = 'write' ORDER BY f.first_read"""
    )
    for row in rows:
        if row["read_first"] == (params.order == "read-first"):
            values = {"path": row["path"], "written_at": f"{row['written_file']}:{row['written_line']}", "subject": row["path"]}
            yield Hit(row["file"], row["line"], values)


DETECTOR = Detector("rewritten-file", _find, Params, frozenset({"path", "written_at"}))
