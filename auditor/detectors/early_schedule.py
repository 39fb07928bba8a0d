"""A learning rate schedule that steps before its optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """`scalers`: ops (globs) by which one sees that steps may be skipped, as those of GradScaler are."""

    scalers: tuple[str, ...]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line at which the schedule of an optimizer steps before the optimizer does, and then again after it has.

    A line that runs only once gives no hit: it moves the schedule forward when training is resumed, or only inspects it.
    """
    fits = " OR ".join("op GLOB ?" for _ in params.scalers) or "false"
    rows = runs[0].query(
        f"""WITH begun AS (
            SELECT lane, optimizer, min(nth) AS nth FROM events WHERE kind = 'step' AND optimizer IS NOT NULL AND gradients > 0
            GROUP BY lane, optimizer),
        met AS (SELECT lane, optimizer, min(nth) AS nth FROM events WHERE kind = 'step' AND optimizer IS NOT NULL GROUP BY lane, optimizer),
        schedules AS (
            SELECT e.*, e.nth < m.nth AS early FROM events e JOIN met m ON m.lane = e.lane AND m.optimizer = e.optimizer
            SEMI JOIN begun b ON b.lane = e.lane AND b.optimizer = e.optimizer
            WHERE e.kind = 'schedule' AND e.line IS NOT NULL)
        SELECT lane, file, line, arg_min(name, nth) AS name, count(*) AS times, min(nth) AS nth, arg_min(optimizer, nth) AS optimizer,
            (SELECT any_value(class) FROM held h WHERE h.lane = s.lane AND h.optimizer = arg_min(s.optimizer, s.nth)) AS class
        FROM schedules s WHERE NOT EXISTS (SELECT 1 FROM records WHERE {fits})
        GROUP BY lane, file, line HAVING bool_or(early) AND bool_or(NOT early) ORDER BY nth""",
        *params.scalers,
    )
    for row in rows:
        values = {"schedule": row["name"], "optimizer": row["class"], "subject": row["name"]}
        yield Hit(row["file"], row["line"], values, row["times"], lanes=(row["lane"],))


DETECTOR = Detector("early-schedule", _find, Params, frozenset({"schedule", "optimizer"}))
