"""Reductions in half precision whose result was measured to be far from that of float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """The relative error of one rounding in each dtype, and how many of them are too many."""

    roundings: dict[str, float]
    many: int


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line: a result became infinite, or is off by many roundings."""
    rows = runs[0].query(
        """WITH found AS (
            SELECT m.lane, m."row", m.of, m.largest, m.overflowed, r.op, r.file, r.line, r.module,
                json_extract_string(r.out, '$[0][0]') AS dtype
            FROM measured m JOIN records r ON r.lane = m.lane AND r."row" = m."row" WHERE m.what = 'reduction'),
        bad AS (
            SELECT f.* FROM found f JOIN (SELECT unnest(?::VARCHAR[]) AS dtype, unnest(?::DOUBLE[]) AS rounding) l ON l.dtype = f.dtype
            WHERE f.overflowed > 0 OR f.largest > l.rounding * ?)
        SELECT file, line, first(op ORDER BY "row") AS op, first(dtype ORDER BY "row") AS dtype, first(module ORDER BY "row") AS module,
            first(of ORDER BY "row") AS of, sum(overflowed) AS overflowed, max(largest) AS largest, count(*) AS times
        FROM bad GROUP BY file, line ORDER BY min("row")""",
        list(params.roundings),
        list(params.roundings.values()),
        params.many,
    )
    for row in rows:
        error = "is infinite although the numbers are finite" if row["overflowed"] else f"is off by up to {row['largest']:.1%}"
        values = {
            "op": row["op"], "dtype": row["dtype"], "of": f"{row['of']:,}" if row["of"] else "many", "error": error,
            "within": f" in {row['module']}" if row["module"] else "",
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["times"])


DETECTOR = Detector("half-reduction", _find, Params, frozenset({"op", "dtype", "of", "error", "within"}))
