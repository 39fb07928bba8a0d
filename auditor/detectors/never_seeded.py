"""A random stream that is drawn from and that nobody seeded."""

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
    """One hit a stream, at its first draw.

    A seed counts for the lane that it was given in and, in the main lane, for all lanes: threads share its streams, forks inherit them.
    A seed from entropy is none. One that comes after the draws is another fault (`late_seed.py`).
    """
    fits = " OR ".join("stream GLOB ?" for _ in params.streams)
    draws = runs[0].query(
        f"""SELECT stream, first(file ORDER BY lane <> 'main', "row") AS file, first(line ORDER BY lane <> 'main', "row") AS line,
            first(op ORDER BY lane <> 'main', "row") AS op, count(*) AS draws
        FROM "all" d WHERE kind = 'draw' AND ({fits}) AND NOT EXISTS (
            SELECT 1 FROM events s WHERE s.kind = 'seed' AND s.stream = d.stream AND NOT coalesce(s.entropy, false)
            AND (s.lane = d.lane OR s.lane NOT GLOB 'worker*'))
        GROUP BY stream ORDER BY stream""",
        *params.streams,
    )
    if not draws:
        return
    seeded = [
        row["stream"] for row in runs[0].query("SELECT DISTINCT stream FROM events WHERE kind = 'seed' AND NOT entropy ORDER BY stream")
    ]
    others = f" ({' and '.join(seeded)} {'is' if len(seeded) == 1 else 'are'} seeded)" if seeded else ""
    for row in draws:
        yield Hit(
            row["file"], row["line"], {"stream": row["stream"], "op": row["op"], "others": others, "subject": row["stream"]}, row["draws"]
        )


DETECTOR = Detector("never-seeded", _find, Params, frozenset({"stream", "op", "others"}))
