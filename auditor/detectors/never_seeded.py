"""A random stream that is drawn from and never seeded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit, listed

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """Which streams; globs."""

    streams: tuple[str, ...]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per stream, at its first draw by a line of the user's.

    A seed counts for its own lane and, outside DataLoader workers, for all lanes: threads share streams, and forks inherit them. A seed
    from OS entropy that a line of the user's asked for is another fault, and so is a seed after the draws (`late_seed.py`).
    """
    fits = " OR ".join("stream GLOB ?" for _ in params.streams)
    draws = runs[0].query(
        f"""WITH seeds AS (
            SELECT s.*, l.role FROM events s JOIN lanes l USING (lane)
            WHERE s.kind = 'seed' AND (NOT coalesce(s.entropy, false) OR s.line IS NOT NULL)),
        unseeded AS (
            SELECT d.* FROM "all" d WHERE d.kind = 'draw' AND d.line IS NOT NULL AND ({fits}) AND NOT EXISTS (
                SELECT 1 FROM seeds s WHERE s.stream = d.stream AND (s.lane = d.lane OR s.role <> 'worker')))
        SELECT stream, first(file ORDER BY lane <> 'main', lane, "row") AS file, first(line ORDER BY lane <> 'main', lane, "row") AS line,
            first(op ORDER BY lane <> 'main', lane, "row") AS op, count(*) AS draws, count(DISTINCT step) AS steps,
            count(DISTINCT (file, line)) - 1 AS more, list(DISTINCT lane) AS lanes,
            (SELECT list(DISTINCT s.lane ORDER BY s.lane) FROM seeds s WHERE s.stream = u.stream) AS seeded_in
        FROM unseeded u GROUP BY stream ORDER BY stream""",
        *params.streams,
    )
    if not draws:
        return
    seeded = {
        str(row["stream"])
        for row in runs[0].query("SELECT DISTINCT stream FROM events WHERE kind = 'seed' AND NOT coalesce(entropy, false)")
    }
    for row in draws:
        others = sorted(seeded - {row["stream"]})
        elsewhere = f"seeded in {listed(row['seeded_in'])} only" if row["seeded_in"] else "never seeded"
        said = f" ({listed(others)} {'is' if len(others) == 1 else 'are'} seeded)" if others else ""
        more = f", and from {row['more']} more {'line' if row['more'] == 1 else 'lines'}" if row["more"] else ""
        values = {
            "stream": row["stream"], "op": row["op"], "others": said, "more": more, "seeded": elsewhere, "subject": row["stream"],
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["draws"], row["steps"], tuple(row["lanes"]))


DETECTOR = Detector("never-seeded", _find, Params, frozenset({"stream", "op", "others", "more", "seeded"}))
