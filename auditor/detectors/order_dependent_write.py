"""Writes through an index that names one element twice with different values: which of them survives is undefined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per line where a write in reverse order gave another result, as the recorder measured.

    Values that are read through the same index, changed and written back give no hit: there the fault is the lost additions, which
    `repeated-index-write` reports.
    """
    rows = runs[0].query(
        """SELECT r.file, r.line, first(r.op ORDER BY r."row") AS op, max(m."values") AS written, max(m.changed) AS changed,
            count(*) AS times
        FROM measured m JOIN records r USING (lane, "row")
        WHERE m.what = 'order' AND m.changed > 0 AND r.line IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM uses u JOIN records added ON added.lane = u.lane AND added."row" = u.used
            JOIN records taken ON taken.lane = added.lane AND taken."row" = added.in0
            WHERE u.lane = r.lane AND u."row" = r."row" AND regexp_matches(added.op, '^aten\\.(add|sub)_?\\.')
                AND taken.op = 'aten.index.Tensor' AND taken.in0 = r.in0)
        GROUP BY r.file, r.line ORDER BY min(r."row")"""
    )
    for row in rows:
        yield Hit(row["file"], row["line"], {name: row[name] for name in ("op", "written", "changed")}, row["times"])


DETECTOR = Detector("order-dependent-write", _find, Params, frozenset({"op", "written", "changed"}))
