"""A running total in half precision, where a large total loses small terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """Which dtypes, and how many terms in a row make a total."""

    dtypes: tuple[str, ...]
    terms: int


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line that repeatedly adds to the result that it gave before.

    A total is a tensor without dimensions, or one that is kept from step to step: `x = x + layer(x)` over the layers of a network starts
    again in each step. Gradients that backward passes accumulate, and ops of optimizers, give no hit.
    """
    marks = ", ".join("?" for _ in params.dtypes) or "NULL"
    rows = runs[0].query(
        f"""WITH outs AS (
            SELECT DISTINCT out, json_extract_string(out, '$[0][0]') AS dtype, json_extract_string(out, '$[0][1]') AS shape
            FROM records WHERE out IS NOT NULL),
        sums AS MATERIALIZED (
            SELECT r.lane, r."row", r.file, r.line, r.op, r.step, r.in0, r.in1, o.dtype, o.shape FROM records r JOIN outs o ON o.out = r.out
            WHERE r.kind = 'op' AND r.op IN ('aten.add.Tensor', 'aten.add_.Tensor') AND r.line IS NOT NULL
            AND r.phase NOT IN ('backward', 'optimizer') AND o.dtype IN ({marks})),
        links AS (
            SELECT DISTINCT s.lane, s."row" FROM (SELECT *, unnest([in0, in1]) AS source FROM sums) s
            JOIN sums p ON p.lane = s.lane AND p."row" = s.source
            WHERE p.file = s.file AND p.line = s.line AND (s.shape = '[]' OR p.step <> s.step)),
        chains AS (
            SELECT s.*, sum(CASE WHEN l."row" IS NULL THEN 1 ELSE 0 END) OVER (
                PARTITION BY s.lane, s.file, s.line, s.shape ORDER BY s."row") AS chain
            FROM sums s LEFT JOIN links l ON l.lane = s.lane AND l."row" = s."row")
        SELECT file, line, max(terms) AS terms, sum(terms) AS times, first(dtype ORDER BY lane, moment) AS dtype,
            first(shape ORDER BY lane, moment) AS shape, first(op ORDER BY lane, moment) AS op
        FROM (SELECT lane, file, line, shape, chain, any_value(dtype) AS dtype, any_value(op) AS op, count(*) AS terms, min("row") AS moment
            FROM chains GROUP BY lane, file, line, shape, chain HAVING count(*) >= ?)
        GROUP BY file, line ORDER BY file, line""",
        *params.dtypes,
        params.terms,
    )
    for row in rows:
        values = {"dtype": row["dtype"], "shape": row["shape"].replace(",", ", "), "op": row["op"], "terms": row["terms"]}
        yield Hit(row["file"], row["line"], values, int(row["times"]))


DETECTOR = Detector("half-running-total", _find, Params, frozenset({"dtype", "shape", "op", "terms"}))
