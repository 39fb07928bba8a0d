"""Numbers that were computed in a wide dtype, passed through a narrower one, and are in the wide one again without the digits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """The dtypes, ops that only pass numbers on (globs), and over how many ops the way back is followed."""

    wide: str
    narrow: tuple[str, ...]
    carriers: tuple[str, ...]
    hops: int


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line that casts, with the first line where the values are in the wide dtype again.

    External data, which was not computed in the wide dtype, belongs to `narrowing-cast`. Single numbers give no hit: logging a mean in
    float64 is no calculation in float64. Neither do values that pass through a model or into a graph: models are trained in float32 on
    data of any origin, and their results may be averaged in float64. Casts by optimizers and backward passes are torch's own.
    """
    run = runs[0]
    carries = " OR ".join("r.op GLOB ?" for _ in params.carriers) or "false"
    rows = run.query(
        f"""WITH RECURSIVE outs AS (
            SELECT DISTINCT out, json_extract_string(out, '$[0][0]') AS dtype, json_extract_string(out, '$[0][1]') AS shape
            FROM records WHERE out IS NOT NULL),
        many AS (SELECT * FROM outs WHERE shape <> '[]'),
        wide AS MATERIALIZED (
            SELECT r.lane, r."row" FROM records r JOIN many o ON o.out = r.out
            WHERE o.dtype = ? AND r.kind = 'op' AND r.phase NOT IN ('backward', 'optimizer') AND NOT ({carries})),
        casts AS MATERIALIZED (
            SELECT c.lane, c."row", c.file, c.line, o.dtype, o.shape FROM records c JOIN many o ON o.out = c.out
            JOIN wide w ON w.lane = c.lane AND w."row" = coalesce(c.in1, c.in0)
            WHERE c.op GLOB 'aten._to_copy.*' AND list_contains(?, o.dtype) AND c.phase NOT IN ('backward', 'optimizer')
                AND c.line IS NOT NULL),
        flow AS MATERIALIZED (
            SELECT u.lane, u."row", u.used, u.file, u.line, u.op, o.dtype FROM uses u
            JOIN records r ON r.lane = u.lane AND r."row" = u."row" JOIN many o ON o.out = r.out
            WHERE EXISTS (SELECT 1 FROM casts) AND u.phase NOT IN ('backward', 'optimizer')
                AND coalesce(r.module, '') = '' AND NOT coalesce(r.node, false)
                AND (list_contains(?, o.dtype) OR o.dtype = ?) AND u.used <> u."row"),
        trail AS (
            SELECT lane, "row" AS cast_row, "row", 0 AS hops, false AS back, file, line, NULL::VARCHAR AS op FROM casts
            UNION
            SELECT t.lane, t.cast_row, f."row", t.hops + 1, f.dtype = ?, f.file, f.line, f.op
            FROM trail t JOIN flow f ON f.lane = t.lane AND f.used = t."row"
            WHERE NOT t.back AND t.hops < ?),
        backs AS (
            SELECT lane, cast_row, arg_min(struct_pack(file, line, op), "row") AS back FROM trail WHERE back GROUP BY lane, cast_row),
        measures AS (SELECT * FROM measured WHERE what = 'cast')
        SELECT c.file, c.line, count(*) AS casts, first(c.dtype ORDER BY c."row") AS dtype, first(c.shape ORDER BY c."row") AS shape,
            first(b.back ORDER BY c."row") AS back, sum(m."values") AS measured, sum(m.changed) AS changed, max(m.largest) AS largest
        FROM casts c JOIN backs b ON b.lane = c.lane AND b.cast_row = c."row"
        LEFT JOIN measures m ON m.lane = c.lane AND m."row" = c."row"
        GROUP BY c.file, c.line HAVING coalesce(sum(m.changed) > 0 AND coalesce(sum(m.overflowed), 0) = 0, true)
        ORDER BY min(c."row")""",
        params.wide,
        *params.carriers,
        list(params.narrow),
        list(params.narrow),
        params.wide,
        params.wide,
        params.hops,
    )
    for row in rows:
        back = row["back"]
        there = "in the same line" if (back["file"], back["line"]) == (row["file"], row["line"]) else f"in {back['file']}:{back['line']}"
        size = "" if row["largest"] is None else f" by up to {row['largest']:.1e} of its size,"
        values = {
            "wide": params.wide, "dtype": row["dtype"], "shape": row["shape"].replace(",", ", "), "op": back["op"],
            "back_at": there if back["line"] else "later", "error": size,
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["casts"])


DETECTOR = Detector("lost-digits", _find, Params, frozenset({"wide", "dtype", "shape", "op", "back_at", "error"}))
