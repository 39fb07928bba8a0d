"""Tensors of two floating dtypes in one op, where type promotion decides in which dtype the op computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_FLOATING = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Params:
    """The dtype that wins, the ops that promote (globs), and where to search.

    `training`: ops that a backward pass went through and whose result has the wide dtype, in a run whose optimizer writes narrower ones
    only; `elsewhere`: all others.
    """

    wide: str
    ops: tuple[str, ...]
    where: Literal["training", "elsewhere"]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line.

    The inputs of an op are known by the records that wrote their memory. A tensor without dimensions does not promote, and a view may
    have no dimensions where the record has some, or another dtype: memory that was viewed in such a way is not judged.
    """
    fits = " OR ".join("op GLOB ?" for _ in params.ops) or "false"
    floating = ", ".join(f"'{dtype}'" for dtype in _FLOATING)
    rows = runs[0].query(
        f"""WITH parts AS (
            SELECT out, unnest(from_json(out, '["JSON"]')) AS part FROM (SELECT DISTINCT out FROM records WHERE out IS NOT NULL)),
        outs AS MATERIALIZED (
            SELECT out, count(DISTINCT part->>0) AS kinds, any_value(part->>0) AS dtype, min(json_array_length(part->1)) AS dims
            FROM parts WHERE part->>0 IN ({floating}) GROUP BY out),
        asked AS MATERIALIZED (
            SELECT lane, "row", unnest(CASE WHEN inputs IS NULL THEN [in0, in1, in2]
                ELSE CAST(string_split(inputs, ' ') AS BIGINT[]) END) AS source
            FROM records WHERE kind = 'op' AND phase NOT IN ('backward', 'optimizer') AND ({fits})),
        sources AS (
            SELECT r.lane, r."row" AS source, o.dtype, o.kinds = 1 AND o.dims > 0 AS sure FROM records r JOIN outs o ON o.out = r.out
            WHERE (r.lane, r."row") IN (SELECT lane, source FROM asked)),
        views AS (
            SELECT r.lane, r.in0 AS source, r."row", o.dtype, coalesce(o.dims, 1) AS dims FROM records r LEFT JOIN outs o ON o.out = r.out
            WHERE r.kind = 'op' AND r.digest = 0 AND (r.lane, r.in0) IN (SELECT lane, source FROM asked)),
        known AS (
            SELECT s.lane, s.source, s.dtype, min(v."row") FILTER (WHERE v.dims = 0 OR v.dtype IS DISTINCT FROM s.dtype) AS until
            FROM sources s LEFT JOIN views v ON v.lane = s.lane AND v.source = s.source WHERE s.sure GROUP BY s.lane, s.source, s.dtype),
        mixed AS (
            SELECT a.lane, a."row", min(k.dtype) FILTER (WHERE k.dtype <> ?) AS narrow
            FROM asked a JOIN known k ON k.lane = a.lane AND k.source = a.source AND (a."row" < k.until OR k.until IS NULL)
            GROUP BY a.lane, a."row" HAVING bool_or(k.dtype = ?) AND bool_or(k.dtype <> ?))
        SELECT r.file, r.line, r.op, r.in_place, r.phase, json_extract_string(r.out, '$[0][0]') AS dtype,
            json_extract_string(r.out, '$[0][1]') AS shape, m.narrow, count(*) AS times, min(r."row") AS moment
        FROM mixed m JOIN records r ON r.lane = m.lane AND r."row" = m."row" GROUP BY ALL ORDER BY moment, shape""",
        *params.ops,
        params.wide,
        params.wide,
        params.wide,
    )
    if not rows:
        return
    trained = _differentiated(runs[0]) if _optimizer_is_narrow(runs[0], params.wide) else set()
    told: dict[tuple[object, object], Hit] = {}
    for row in rows:
        if row["dtype"] not in (params.wide, "bool") and not row["in_place"]:
            continue  # then one of the inputs was a view without dimensions after all
        leaks = row["dtype"] == params.wide and row["phase"] == "forward" and (row["file"], row["line"]) in trained
        if leaks != (params.where == "training"):
            continue
        shape = row["shape"].replace(",", ", ") if row["shape"] != "[]" else "(one number)"
        result = (
            f"compares them in {params.wide}" if row["dtype"] == "bool"
            else f"gives {params.wide} {shape}" if row["dtype"] == params.wide
            else f"computes in {params.wide} and rounds into {row['dtype']} {shape}"
        )  # fmt: skip
        values = {"op": row["op"], "narrow": row["narrow"], "wide": params.wide, "result": result}
        place = (row["file"], row["line"])
        earlier = told.get(place)
        told[place] = Hit(row["file"], row["line"], earlier.values if earlier else values, row["times"] + (earlier.count if earlier else 0))
    yield from told.values()


def _optimizer_is_narrow(run: Tables, wide: str) -> bool:
    """Whether an optimizer updates tensors, and none of the wide dtype."""
    found = run.query(
        """SELECT DISTINCT json_extract_string(out, '$[0][0]') AS dtype FROM (
            SELECT DISTINCT out FROM records WHERE kind = 'op' AND phase = 'optimizer' AND in_place)
        WHERE json_extract_string(out, '$[0][1]') <> '[]'"""
    )
    dtypes = {row["dtype"] for row in found} & set(_FLOATING)
    return bool(dtypes) and wide not in dtypes


def _differentiated(run: Tables) -> set[tuple[str, int]]:
    """The lines that a backward pass went through."""
    found = run.query("SELECT DISTINCT forward_file, forward_line FROM records WHERE phase = 'backward' AND forward_line IS NOT NULL")
    return {(row["forward_file"], row["forward_line"]) for row in found}


DETECTOR = Detector("promotion", _find, Params, frozenset({"op", "narrow", "wide", "result"}))
