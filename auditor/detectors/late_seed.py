"""A random stream that is seeded only after it was drawn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """Which streams; globs."""

    streams: tuple[str, ...]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per stream, at its first seed, if a line of the user's drew before it in the same lane. Restoring a state is no seeding."""
    fits = " OR ".join("stream GLOB ?" for _ in params.streams)
    rows = runs[0].query(
        f"""WITH seeds AS (
            SELECT lane, stream, min("row") AS moment, first(file ORDER BY "row", nth) AS file, first(line ORDER BY "row", nth) AS line,
                first(op ORDER BY "row", nth) AS op
            FROM events WHERE kind = 'seed' AND NOT coalesce(entropy, false) AND op NOT GLOB '*set*state' AND ({fits})
            GROUP BY lane, stream)
        SELECT s.stream, s.file, s.line, s.op, count(*) AS draws, list(DISTINCT s.lane) AS lanes,
            first(d.op ORDER BY d."row") AS drawn_by, first(d.file ORDER BY d."row") AS drawn_file,
            first(d.line ORDER BY d."row") AS drawn_line
        FROM seeds s JOIN records d ON d.lane = s.lane AND d.kind = 'draw' AND d.args = s.stream AND d."row" < s.moment
        WHERE d.line IS NOT NULL
        GROUP BY ALL ORDER BY s.stream, s.file, s.line""",
        *params.streams,
    )
    for row in rows:
        values = {
            "stream": row["stream"], "op": row["op"], "drawn_by": row["drawn_by"], "subject": row["stream"],
            "drawn_at": f"{row['drawn_file']}:{row['drawn_line']}",
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["draws"], lanes=tuple(row["lanes"]))


DETECTOR = Detector("late-seed", _find, Params, frozenset({"stream", "op", "drawn_by", "drawn_at"}))
