"""An optimizer that steps again with the gradients of its previous step."""

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
    """One hit per line that steps again.

    Since the previous step no gradient was accumulated, and all gradients of the optimizer are bit for bit the same: this excludes
    gradients that are set manually or by another thread. A backward pass for other tensors counts as well: if its gradients are unused,
    `unused_gradient.py` reports that. Steps without any gradient change nothing, and of unrecorded steps nothing is known.
    """
    run = runs[0]
    steps = {
        (lane.name, nth): event.get("gradients")
        for lane in run.run.lanes.values()
        for nth, event in enumerate(lane.events)
        if event["k"] == "step"
    }
    pairs = run.query(
        """WITH steps AS (
            SELECT lane, optimizer, gradients AS had, nth, step, "row", lag("row") OVER w AS since, lag(nth) OVER w AS nth_before
            FROM events WHERE kind = 'step' AND optimizer IS NOT NULL WINDOW w AS (PARTITION BY lane, optimizer ORDER BY nth)),
        given AS (SELECT DISTINCT lane, "row" FROM gradients),
        next AS (
            SELECT s.lane, s.nth, g."row" AS last FROM steps s ASOF JOIN given g ON g.lane = s.lane AND g."row" < s."row")
        SELECT s.lane, s.optimizer, s.nth, s.nth_before, s.step, o.file, o.line, b.file AS before_file, b.line AS before_line,
            (SELECT any_value(class) FROM held h WHERE h.lane = s.lane AND h.optimizer = s.optimizer) AS class
        FROM steps s JOIN next n ON n.lane = s.lane AND n.nth = s.nth
        JOIN records o ON o.lane = s.lane AND o."row" = s."row" - 1 AND o.phase = 'optimizer'
        JOIN records b ON b.lane = s.lane AND b."row" = s.since - 1
        WHERE s.had > 0 AND s.since < s."row" AND n.last < s.since ORDER BY s.lane, s.nth"""
    )
    places: dict[tuple[object, object], tuple[dict[str, object], int]] = {}
    for row in pairs:
        if steps.get((row["lane"], row["nth"])) == steps.get((row["lane"], row["nth_before"])) is not None:
            first, count = places.get((row["file"], row["line"]), (row, 0))
            places[row["file"], row["line"]] = first, count + 1
    for first, count in places.values():
        file, line, before = first["file"], first["line"], (first["before_file"], first["before_line"])
        values = {
            "optimizer": first["class"], "since": first["step"], "subject": first["class"],
            "before": "on this very line" if before == (file, line) else f"in {before[0]}:{before[1]}",
            "times": f" ({count} times, from step {first['step']} on)" if count > 1 else "",
        }  # fmt: skip
        yield Hit(str(file) if file else None, int(str(line)) if line is not None else None, values, count)


DETECTOR = Detector("repeated-step", _find, Params, frozenset({"optimizer", "since", "before", "times"}))
