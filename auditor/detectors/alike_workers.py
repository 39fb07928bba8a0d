"""DataLoader workers whose random streams start in the same state."""

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
    """One hit per line and stream: several workers of one process drew there for the first time in the same state."""
    rows = runs[0].query(
        """WITH firsts AS (
            SELECT lane, rank, args AS stream, op, file, line, first(digest ORDER BY "row") AS state
            FROM records JOIN lanes USING (lane) WHERE kind = 'draw' AND role = 'worker' GROUP BY lane, rank, args, op, file, line)
        SELECT file, line, stream, op, count(*) AS workers, string_agg(lane, ', ' ORDER BY lane) AS lanes
        FROM firsts GROUP BY rank, file, line, stream, op, state
            HAVING count(*) > 1 ORDER BY file, line, stream, op"""
    )
    told = set()
    for row in rows:
        place = (row["file"], row["line"], row["stream"])
        if place not in told:
            told.add(place)
            values = {"stream": row["stream"], "op": row["op"], "workers": row["lanes"], "subject": row["stream"]}
            yield Hit(row["file"], row["line"], values, row["workers"])


DETECTOR = Detector("alike-workers", _find, Params, frozenset({"stream", "op", "workers"}))
