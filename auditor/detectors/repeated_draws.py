"""Draws that give the same numbers step after step, because the stream is put back to where it was."""

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
    """One hit a line: the same function drew there from the same state in several steps.

    Backward passes are left out: checkpointing puts a stream back to draw the same numbers again, and is right to.
    """
    fits = " OR ".join("args GLOB ?" for _ in params.streams)
    rows = runs[0].query(
        f"""WITH repeated AS (
            SELECT lane, args AS stream, op, file, line, digest, count(DISTINCT step) AS steps, min(step) AS since, min("row") AS moment
            FROM records WHERE kind = 'draw' AND phase <> 'backward' AND line IS NOT NULL AND ({fits})
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
