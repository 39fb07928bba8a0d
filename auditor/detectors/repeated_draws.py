"""Draws that return the same numbers step after step, because the stream is reset to an earlier state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """Which streams (globs), and in how many steps the same draw must be seen."""

    streams: tuple[str, ...]
    steps: int = 2


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line: the same function drew there from the same state in several steps.

    Backward passes give no hit: checkpointing correctly resets a stream to draw the same numbers again. Neither do ops that could have
    drawn and did not, such as attention with a dropout of 0: the next draw finds the stream in the same state. For generators of the
    script's own this check is impossible, because many share one stream name.
    """
    fits = " OR ".join("args GLOB ?" for _ in params.streams)
    rows = runs[0].query(
        f"""WITH draws AS (
            SELECT *, lead(digest) OVER w AS next_state, lead("row") OVER w AS next_row FROM records WHERE kind = 'draw' AND ({fits})
            WINDOW w AS (PARTITION BY lane, args ORDER BY "row")),
        seeds AS (SELECT lane, stream, "row" FROM events WHERE kind = 'seed'),
        drawn AS (
            SELECT d.* FROM draws d ASOF LEFT JOIN seeds s ON s.lane = d.lane AND s.stream = d.args AND d.next_row >= s."row"
            WHERE d.args IN ('torch-own', 'numpy-own', 'python-own') OR d.next_state IS DISTINCT FROM d.digest OR s."row" > d."row"),
        repeated AS (
            SELECT lane, args AS stream, op, file, line, digest, count(DISTINCT step) AS steps, min(step) AS since, min("row") AS moment
            FROM drawn WHERE phase <> 'backward' AND line IS NOT NULL
            GROUP BY lane, args, op, file, line, digest HAVING count(DISTINCT step) >= ?)
        SELECT file, line, stream, first(op ORDER BY moment) AS op, max(steps) AS steps, min(since) AS since
        FROM repeated GROUP BY file, line, stream ORDER BY min(moment)""",
        *params.streams,
        params.steps,
    )
    for row in rows:
        seed = runs[0].query(
            "SELECT file, line, count(*) AS n FROM events WHERE kind = 'seed' AND stream = ? AND line IS NOT NULL "
            "GROUP BY file, line HAVING count(DISTINCT step) > 1 ORDER BY n DESC LIMIT 1",
            row["stream"],
        )
        again = f"; it is seeded again in {seed[0]['file']}:{seed[0]['line']}" if seed else ""
        values = {"stream": row["stream"], "op": row["op"], "steps": row["steps"], "again": again, "subject": row["stream"]}
        yield Hit(row["file"], row["line"], values, row["steps"])


DETECTOR = Detector("repeated-draws", _find, Params, frozenset({"stream", "op", "steps", "again"}))
