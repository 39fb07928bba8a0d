"""An environment variable that is set after the process has read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """Which variables."""

    variables: tuple[str, ...]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line that sets such a variable to another value in a process that runs ops afterwards.

    A launcher sets it for the processes that it starts: they read it, and the launcher itself runs no op.
    """
    rows = runs[0].query(
        """SELECT e.file, e.line, e.name, e.value, list(DISTINCT e.lane) AS lanes FROM events e JOIN lanes l USING (lane)
        WHERE e.kind = 'setting' AND NOT coalesce(e.initial, false) AND list_contains(?, e.name) AND e.line IS NOT NULL AND EXISTS (
            SELECT 1 FROM records r JOIN lanes o USING (lane)
            WHERE o.pid = l.pid AND r.kind = 'op' AND (r.lane <> e.lane OR r."row" >= e."row"))
        GROUP BY e.file, e.line, e.name, e.value ORDER BY min(e."row"), e.name""",
        [f"environ:{name}" for name in params.variables],
    )
    for row in rows:
        values = {"name": row["name"], "value": row["value"], "subject": row["name"]}
        yield Hit(row["file"], row["line"], values, lanes=tuple(row["lanes"]))


DETECTOR = Detector("late-variable", _find, Params, frozenset({"name", "value"}))
