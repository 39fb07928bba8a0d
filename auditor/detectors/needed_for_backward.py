"""Memory that a backward pass needs as it was in the forward pass, and that is written in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

#: Ops whose derivative uses their output, and ops whose derivative uses their inputs (torch's `derivatives.yaml`).
_BY_RESULT = (
    "exp", "exp2", "expm1", "sqrt", "rsqrt", "tanh", "sigmoid", "relu", "_softmax", "_log_softmax", "reciprocal", "tan", "cumprod", "prod",
)  # fmt: skip
_BY_INPUT = (
    "mul", "div", "pow", "mm", "bmm", "addmm", "baddbmm", "convolution", "log", "log2", "log10", "log1p", "sin", "cos", "abs", "gelu",
    "silu", "leaky_relu", "softplus", "native_layer_norm", "native_batch_norm", "var", "std", "linalg_vector_norm", "square", "prod",
    "clamp",
)  # fmt: skip


@dataclass(frozen=True)
class Params:
    """No settings."""


#: In-place ops of the user's own, outside of backward passes and optimizers.
_OWN = "own AS (SELECT * FROM writes WHERE phase IN ('setup', 'forward') AND line IS NOT NULL AND in0 >= 0)"

#: Backward ops that read what such an op wrote after the forward op had run: the version counter did not see it, as through `.data`.
_SILENT = (
    "WITH RECURSIVE "
    + _OWN
    + """,
    reads AS (
        SELECT b.lane, b."row", b.forward_row, b.file, b.line, b.op, w."row" AS written FROM records b
        JOIN uses u ON u.lane = b.lane AND u."row" = b."row"
        JOIN own w ON w.lane = b.lane AND w."row" = u.used
        WHERE b.phase = 'backward' AND b.forward_row IS NOT NULL AND w."row" > b.forward_row),
    before AS (
        SELECT lane, forward_row, written, written AS at FROM reads
        UNION
        SELECT p.lane, p.forward_row, p.written, w.in0 FROM before p JOIN own w ON w.lane = p.lane AND w."row" = p.at
        WHERE p.at > p.forward_row),
    needed AS (
        SELECT DISTINCT p.lane, p.forward_row, p.written FROM before p
        WHERE p.at = p.forward_row OR p.at < p.forward_row AND EXISTS (
            SELECT 1 FROM uses f WHERE f.lane = p.lane AND f."row" = p.forward_row AND f.used = p.at)),
    passes AS (SELECT lane, file, line FROM events WHERE kind = 'backward' GROUP BY ALL)
    SELECT w.file, w.line, first(w.op ORDER BY w."row") AS op, first(x.op ORDER BY w."row") AS needs,
        first(x.file ORDER BY w."row") AS at_file, first(x.line ORDER BY w."row") AS at_line, count(DISTINCT w."row") AS times
    FROM needed n JOIN own w ON w.lane = n.lane AND w."row" = n.written
    JOIN records x ON x.lane = n.lane AND x."row" = n.forward_row
    JOIN reads b ON b.lane = n.lane AND b.forward_row = n.forward_row AND b.written = n.written
    JOIN passes e ON e.lane = b.lane AND e.file IS NOT DISTINCT FROM b.file AND e.line IS NOT DISTINCT FROM b.line
    WHERE (x.file, x.line) IS DISTINCT FROM (w.file, w.line)
    GROUP BY w.file, w.line ORDER BY min(w."row")"""
)

#: Backward passes that gave no leaf a gradient: torch refused, because memory that an op behind it needs had been written.
_REFUSED = (
    "WITH RECURSIVE "
    + _OWN
    + """,
    passes AS (
        SELECT lane, "row", root, file, line, lead("row", 1, 9223372036854775807) OVER (PARTITION BY lane ORDER BY "row", nth) AS next
        FROM events WHERE kind = 'backward' AND graph),
    refused AS (
        SELECT p.* FROM passes p WHERE root >= 0 AND NOT EXISTS (
            SELECT 1 FROM gradients g WHERE g.lane = p.lane AND g."row" >= p."row" AND g."row" < p.next)),
    way AS (
        SELECT lane, "row" AS pass, root AS at FROM refused
        UNION
        SELECT y.lane, y.pass, u.used FROM way y JOIN uses u ON u.lane = y.lane AND u."row" = y.at
        WHERE u.used < y.at),
    changed AS (
        SELECT y.lane, y.pass, w."row", w.in0, w.file, w.line, w.op FROM way y JOIN own w ON w.lane = y.lane AND w."row" = y.at),
    needing AS (
        SELECT c.*, x."row" AS needs, x.op AS needs_op, x.file AS at_file, x.line AS at_line FROM changed c
        JOIN records x ON x.lane = c.lane AND x.node AND x."row" < c."row" AND (
            x."row" = c.in0 AND list_contains(?, split_part(x.op, '.', 2))
            OR list_contains(?, split_part(x.op, '.', 2)) AND c.in0 IN (x.in0, x.in1, x.in2)))
    SELECT n.file, n.line, first(n.op ORDER BY n."row") AS op, first(n.needs_op ORDER BY n."row") AS needs,
        first(n.at_file ORDER BY n."row") AS at_file, first(n.at_line ORDER BY n."row") AS at_line, count(DISTINCT n."row") AS times
    FROM needing n
    WHERE NOT EXISTS (
        SELECT 1 FROM records b WHERE b.lane = n.lane AND b.phase = 'backward' AND b.forward_row = n.needs AND b."row" >= n.pass)
    GROUP BY n.file, n.line ORDER BY min(n."row")"""
)


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per line that writes.

    A write that torch noticed shows as a backward pass that gave no leaf a gradient. A write that torch did not notice shows as a
    backward op that read a value written later than its forward op. Ops inside a Python `autograd.Function` share one node and give no
    hit.
    """
    told: set[tuple[str, int]] = set()
    questions = ((_SILENT, (), False), (_REFUSED, (list(_BY_RESULT), list(_BY_INPUT)), True))
    for sql, given, refused in questions:
        for row in runs[0].query(sql, *given):
            place = (row["file"], row["line"])
            if place in told:
                continue
            told.add(place)
            what = "torch raises an error in backward()" if refused else "its gradient is computed from the new values, and is wrong"
            values = {"op": row["op"], "needs": row["needs"], "at": f"{row['at_file']}:{row['at_line']}", "outcome": what}
            yield Hit(*place, values, row["times"])


DETECTOR = Detector("needed-for-backward", _find, Params, frozenset({"op", "needs", "at", "outcome"}))
