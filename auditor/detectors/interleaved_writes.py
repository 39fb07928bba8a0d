"""Memory that several threads write alternately, or that several processes train at once: the order depends on timing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from auditor.detectors import Detector, Hit, named

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """`threads`: two threads write one tensor alternately; `processes`: parameters in shared memory, each process with optimizers."""

    among: Literal["threads", "processes"]


#: In-place ops whose memory another thread of the process had written last, and that one after a third had, or the first again.
_THREADS = """WITH whose AS (SELECT w.*, l.pid, l.base, l.role FROM writes w JOIN lanes l USING (lane) WHERE w.line IS NOT NULL),
    taken AS (
        SELECT w.*, o.lane AS from_lane, o.role AS from_role, o."row" AS from_row FROM whose w
        JOIN whose o ON o.pid = w.pid AND o.base + o.record = -2 - w.in0 WHERE w.in0 < -2),
    turns AS (
        SELECT lane, from_lane, file, line, op, count(*) AS times, min("row") AS moment FROM taken
        WHERE role = 'thread' AND from_role = 'thread' GROUP BY ALL)
    SELECT t.file, t.line, first(t.op ORDER BY t.moment) AS op, list_distinct(flatten(list([t.lane, t.from_lane]))) AS lanes,
        sum(t.times) AS times
    FROM turns t WHERE EXISTS (FROM turns b WHERE b.lane = t.from_lane AND b.from_lane = t.lane)
    GROUP BY t.file, t.line ORDER BY min(t.moment)"""

_PROCESSES = """SELECT s.file, s.line, list(DISTINCT e.lane) AS lanes, count(*) AS times,
        list_max(map_values(histogram(e.lane))) AS most
    FROM (SELECT file, line FROM events WHERE kind = 'shared' AND lane IN (SELECT lane FROM lanes WHERE role = 'main')
        ORDER BY "row", nth LIMIT 1) s, events e JOIN lanes l USING (lane)
    WHERE l.role = 'process' AND e.kind = 'step' GROUP BY s.file, s.line HAVING count(DISTINCT e.lane) > 1"""


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line.

    A thread that passes a tensor on to the next thread defines an order. There is none if a thread took a tensor over from another that
    had taken it over from the first: then both used it at once, and a lock would change only how often they alternate.
    """
    for row in runs[0].query(_THREADS if params.among == "threads" else _PROCESSES):
        steps = f"up to {row['most']} {'step' if row['most'] == 1 else 'steps'} each" if row.get("most") else ""
        values = {"lanes": sorted(row["lanes"]), "who": named(sorted(row["lanes"]), 0, ""), "op": row.get("op"), "steps": steps}
        yield Hit(row["file"], row["line"], values, int(row["times"]))


DETECTOR = Detector("interleaved-writes", _find, Params, frozenset({"who", "op", "steps", "lanes"}))
