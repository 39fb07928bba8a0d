"""Gradients that are clipped at the wrong time: while they are scaled, after the update, or before all are accumulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """Which fault."""

    clips: Literal["before-unscale", "after-update", "between-accumulations"]


#: What clipping wrote, by the user's line that clips: a library that clips does so in its own order, under another line. To clip to
#: infinity changes nothing; it is how norms are measured.
_CLIPS = r"""WITH at_lines AS (
        SELECT *, regexp_replace(coalesce(code, ''), '#.*', '') AS said FROM records
        WHERE kind = 'op' AND phase <> 'backward' AND line IS NOT NULL AND contains(code, 'clip_grad_')),
    unbounded AS (SELECT DISTINCT file, line FROM at_lines WHERE regexp_matches(numbers, '(^| )inf( |$)')),
    clips AS (
        SELECT * FROM at_lines a WHERE regexp_matches(said, 'clip_grad_(norm|value)_\s*\(') AND in_place
        AND phase <> 'optimizer' AND (file, line) NOT IN (SELECT (file, line) FROM unbounded)),
    used_before AS (
        SELECT DISTINCT c.lane, c."row" FROM clips c JOIN uses i ON i.lane = c.lane AND i."row" = c."row"
        JOIN uses u ON u.lane = i.lane AND u.used = i.used AND u."row" < c."row" AND u.phase = 'optimizer')
"""

_QUESTIONS = {
    # a limit that is scaled as well is correct
    "before-unscale": r"""SELECT c.file, c.line, count(DISTINCT c.step) AS times, count(DISTINCT c.step) AS steps,
        first(u.file ORDER BY u."row") AS other_file,
            first(u.line ORDER BY u."row") AS other_line
        FROM clips c JOIN uses u ON u.lane = c.lane AND u.used = c."row" AND u.op GLOB 'aten._amp_foreach_non_finite_check_and_unscale_*'
        WHERE NOT regexp_matches(c.said, 'clip_grad_(norm|value)_\s*\([^;]*scale')
        GROUP BY c.file, c.line ORDER BY min(c."row")""",
    # clipping by value is two ops: that the second reads the result of the first is no use of it
    "after-update": """SELECT c.file, c.line, count(DISTINCT b."row") AS times, count(DISTINCT c.step) AS steps, NULL AS other_file,
        NULL AS other_line
        FROM clips c LEFT JOIN used_before b ON b.lane = c.lane AND b."row" = c."row"
        LEFT JOIN uses u ON u.lane = c.lane AND u.used = c."row" AND u.op NOT GLOB '*zero_*'
            AND NOT EXISTS (SELECT 1 FROM clips d WHERE d.lane = u.lane AND d."row" = u."row")
        GROUP BY c.file, c.line HAVING count(u.used) = 0 AND count(DISTINCT b."row") > 1 ORDER BY min(c."row")""",
    "between-accumulations": """SELECT c.file, c.line, count(DISTINCT c."row") AS times, count(DISTINCT c.step) AS steps,
        first(g.file ORDER BY g."row") AS other_file,
            first(g.line ORDER BY g."row") AS other_line
        FROM clips c JOIN gradients g ON g.lane = c.lane AND g.before = c."row" AND coalesce(g.leaf_written, -1) < c."row"
        JOIN uses u ON u.lane = g.lane AND u.used = g.made AND u."row" > g."row" AND u.phase <> 'backward' AND u.op NOT GLOB '*zero_*'
        ANTI JOIN used_before b ON b.lane = c.lane AND b."row" = c."row"
        GROUP BY c.file, c.line ORDER BY min(c."row")""",
}


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line that clips: its result is unscaled afterwards, unused after an update, or added to before an update."""
    for row in runs[0].query(_CLIPS + _QUESTIONS[params.clips]):
        other = f"in {row['other_file']}:{row['other_line']}" if row["other_line"] else "later"
        yield Hit(row["file"], row["line"], {"other_at": other}, row["times"], row["steps"])


DETECTOR = Detector("misplaced-clipping", _find, Params, frozenset({"other_at"}))
