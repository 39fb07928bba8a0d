"""An op whose result goes into another op that does the same again: softmax into log_softmax, sigmoid into a loss of logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """Ops that make a result, and ops that must not get it."""

    made_by: tuple[str, ...]
    taken_by: tuple[str, ...]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line of the second op. In between there may be views, which write nothing, and one copy or cast."""
    rows = runs[0].query(
        """WITH taken AS (
            SELECT lane, "row", in0, file, line, op FROM records WHERE list_contains(?, op) AND phase <> 'backward' AND in0 IS NOT NULL),
        sources AS (
            SELECT t.*, CASE WHEN p.op IN ('aten._to_copy.default', 'aten.clone.default') THEN p.in0 ELSE t.in0 END AS source
            FROM taken t JOIN records p ON p.lane = t.lane AND p."row" = t.in0)
        SELECT t.file, t.line, first(t.op ORDER BY t.lane, t."row") AS op, first(m.op ORDER BY t.lane, t."row") AS made_by,
            first(m.file ORDER BY t.lane, t."row") AS made_file, first(m.line ORDER BY t.lane, t."row") AS made_line,
            first(m.module ORDER BY t.lane, t."row") AS module, count(*) AS times
        FROM sources t JOIN records m ON m.lane = t.lane AND m."row" = t.source AND list_contains(?, m.op)
        GROUP BY t.file, t.line ORDER BY min(t."row")""",
        list(params.taken_by),
        list(params.made_by),
    )
    for row in rows:
        values = {
            "op": row["op"], "made_by": row["made_by"], "made_at": f"{row['made_file']}:{row['made_line']}",
            "within": f" in {row['module']}" if row["module"] else "", "subject": row["made_by"],
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["times"])


DETECTOR = Detector("fed-again", _find, Params, frozenset({"op", "made_by", "made_at", "within"}))
