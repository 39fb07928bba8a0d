"""A model that is evaluated in evaluation mode and then trained in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """Ops that drop at random, ops that update averages, and the start of the `args` of the latter in training mode."""

    dropping: tuple[str, ...]
    averaging: tuple[str, ...]
    args: str = ""


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per model, at the first line that trains it after the evaluation.

    A call is active if something in it drops or averages, and trained if a backward pass used it. A hit needs trained active calls up to
    the first evaluation (an inactive call that no backward pass used), and none after it, in at least two steps. If training mode ever
    returns, the script controls the mode, and inactive layers later are intended; the same holds if it was never on.

    The last trained call before the evaluation and the first one after it must be of the same layers, except those that drop, which leave
    no op in evaluation mode; a skipped path of stochastic depth takes its other layers along. The evaluation and the training after it
    must have used the same weights, updated since the training before it: otherwise these are two models of one class.

    The line is that of the op after the call, if there is one: the line of the call itself may be in a `forward` that both share.
    """
    rows = runs[0].query(
        """WITH numbered AS (SELECT * FROM module_rows),
        inside AS (
            SELECT n.lane, n.root, n.call, n."row", r.module, r.step, coalesce(list_contains(?, r.op) AND r.kind = 'op', false) AS drops,
                coalesce(list_contains(?, r.op) AND starts_with(coalesce(r.args, ''), ?), false) AS averages
            FROM numbered n JOIN records r ON r.lane = n.lane AND r."row" = n."row"),
        interesting AS (SELECT lane, root FROM inside GROUP BY lane, root HAVING bool_or(drops OR averages)),
        trained AS (
            SELECT DISTINCT n.lane, n.call FROM numbered n SEMI JOIN interesting i ON i.lane = n.lane AND i.root = n.root
            JOIN uses u ON u.lane = n.lane AND u.used = n."row" AND u.phase = 'backward'),
        calls AS (
            SELECT i.lane, i.root, i.call, min(i."row") AS start, min(i.step) AS step, bool_or(i.drops OR i.averages) AS active,
                any_value(t.call) IS NOT NULL AS is_trained
            FROM inside i SEMI JOIN interesting w ON w.lane = i.lane AND w.root = i.root
            LEFT JOIN trained t ON t.lane = i.lane AND t.call = i.call GROUP BY i.lane, i.root, i.call),
        begun AS (SELECT lane, root, min(start) AS start FROM calls WHERE is_trained AND active GROUP BY lane, root),
        evaluated AS (
            SELECT c.lane, c.root, min(c.call) AS evaluation, min(c.start) AS start FROM calls c
            JOIN begun b ON b.lane = c.lane AND b.root = c.root AND c.start > b.start
            WHERE NOT c.is_trained AND NOT c.active GROUP BY c.lane, c.root),
        judged AS (
            SELECT e.lane, e.root, e.evaluation, e.start,
                arg_max(c.call, c.start) FILTER (WHERE c.start < e.start) AS before,
                max(c.start) FILTER (WHERE c.start < e.start) AS before_start,
                arg_max(c.active, c.start) FILTER (WHERE c.start < e.start) AS was_active,
                arg_min(c.call, c.start) FILTER (WHERE c.start > e.start) AS "after",
                bool_or(c.active) FILTER (WHERE c.start > e.start) AS is_active,
                count(DISTINCT c.step) FILTER (WHERE c.start > e.start) AS steps,
                count(*) FILTER (WHERE c.start > e.start) AS times
            FROM evaluated e JOIN calls c ON c.lane = e.lane AND c.root = e.root AND c.is_trained
            GROUP BY e.lane, e.root, e.evaluation, e.start),
        suspect AS (SELECT * FROM judged WHERE was_active AND NOT is_active AND steps > 1),
        same_layers AS (
            SELECT s.lane, s.root FROM suspect s WHERE NOT EXISTS (
                SELECT 1 FROM (
                    SELECT module FROM inside i WHERE i.lane = s.lane AND i.call = s.before GROUP BY module HAVING NOT bool_or(drops)) m
                WHERE m.module NOT IN (SELECT module FROM inside j WHERE j.lane = s.lane AND j.call = s."after"))),
        took AS (
            SELECT s.lane, s.root, n.call, u.used FROM suspect s JOIN numbered n ON n.lane = s.lane AND n.call IN (s.evaluation, s."after")
            JOIN uses u ON u.lane = n.lane AND u."row" = n."row"
            JOIN records w ON w.lane = u.lane AND w."row" = u.used AND (w.phase = 'optimizer' OR w.in_place)
            WHERE u.used > s.before_start AND u.used < s.start),
        near AS (
            SELECT e.lane, e.call, r."row", r.file, r.line, r.step FROM (
                SELECT i.lane, i.call, min(i."row") AS start, max(i."row") + 1 AS stop FROM inside i
                SEMI JOIN took k ON k.lane = i.lane AND k.call = i.call GROUP BY i.lane, i.call) e
            JOIN records r ON r.lane = e.lane AND r."row" IN (e.start, e.stop) AND r.line IS NOT NULL),
        same_weights AS (SELECT lane, root FROM took GROUP BY lane, root, used HAVING count(DISTINCT call) = 2)
        SELECT s.*,
            (SELECT arg_min(struct_pack(module, averages), i."row") FROM inside i
                WHERE i.lane = s.lane AND i.call = s.before AND (drops OR averages)) AS layer,
            (SELECT arg_max(struct_pack(file := n.file, line := n.line, step := n.step), n."row") FROM near n
                WHERE n.lane = s.lane AND n.call = s."after") AS at,
            (SELECT arg_max(struct_pack(file := n.file, line := n.line), n."row") FROM near n
                WHERE n.lane = s.lane AND n.call = s.evaluation) AS evaluated
        FROM suspect s SEMI JOIN same_layers l ON l.lane = s.lane AND l.root = s.root
        SEMI JOIN same_weights w ON w.lane = s.lane AND w.root = s.root ORDER BY s.start, s.lane, s.root""",
        list(params.dropping),
        list(params.averaging),
        params.args,
    )
    for row in rows:
        at, seen = row["at"] or {}, row["evaluated"] or {}
        what = "averages" if row["layer"]["averages"] else "drops"
        values = {
            "module": row["root"], "layer": row["layer"]["module"], "what": what, "since": at.get("step"), "subject": row["root"],
            "evaluated_at": f"in {seen['file']}:{seen['line']}" if seen else "before",
        }  # fmt: skip
        yield Hit(at.get("file"), at.get("line"), values, row["times"], row["steps"], (row["lane"],))


DETECTOR = Detector("left-in-evaluation", _find, Params, frozenset({"module", "layer", "what", "evaluated_at", "since"}))
