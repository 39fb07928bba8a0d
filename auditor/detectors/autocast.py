"""Autocast regions that are not used as torch documents them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

#: Ops that autocast runs in its own dtype on every device.
_CAST = r"^aten\.(mm|bmm|addmm|baddbmm|addbmm|mv|addmv|linear|matmul|(\w+_)?convolution|_?scaled_dot_product\w*)\.\w+$"


@dataclass(frozen=True)
class Params:
    """Which fault."""

    fault: Literal["backward-within", "without-effect", "left-open", "no-scaler"]


_QUESTIONS = {
    # a region that is never left has a rule of its own
    "backward-within": """WITH passes AS (
            SELECT e.lane, e.nth, e."row", lead(e."row") OVER (PARTITION BY e.lane ORDER BY e.nth) AS until, e.graph, e.file, e.line
            FROM events e WHERE e.kind = 'backward'),
        within AS (
            SELECT p.*, r.device, r.dtype, r.file AS at_file, r.line AS at_line
            FROM passes p ASOF JOIN autocast_changes i ON i.lane = p.lane AND p.nth > i.nth
            JOIN autocast_regions r ON r.lane = i.lane AND r.entered = i.entered AND r.enabled
            WHERE p.graph AND NOT (r."left" IS NULL AND list_contains(?, r.lane))),
        back AS (
            SELECT b.lane, b."row", json_extract_string(b.out, '$[0][0]') AS dtype FROM records b
            JOIN records f ON f.lane = b.lane AND f."row" = b.forward_row
            WHERE b.phase = 'backward' AND regexp_matches(b.op, ?) AND regexp_matches(f.op, ?)
                AND json_extract_string(f.out, '$[0][0]') = 'float32' AND EXISTS (SELECT 1 FROM within)),
        last AS (SELECT b.lane, b."row", b.dtype, w.nth, w.dtype AS region
            FROM back b ASOF JOIN within w ON w.lane = b.lane AND b."row" >= w."row" WHERE b."row" < coalesce(w.until, b."row" + 1)),
        rounded AS (SELECT lane, nth, count(*) AS products FROM last WHERE dtype = region GROUP BY lane, nth)
        SELECT w.file, w.line, count(*) AS times, w.device, w.dtype, first(w.at_file ORDER BY w.nth) AS at_file,
            first(w.at_line ORDER BY w.nth) AS at_line, NULL AS op, NULL AS computed, max(r.products) AS products
        FROM within w LEFT JOIN rounded r ON r.lane = w.lane AND r.nth = w.nth
        GROUP BY w.file, w.line, w.device, w.dtype ORDER BY min(w.nth)""",
    "without-effect": """WITH ops AS (
            SELECT r.lane, r.op, r."row", i.entered, regexp_matches(r.op, ?) AS castable,
                json_extract_string(r.out, '$[0][0]') AS dtype, json_extract_string(r.out, '$[0][3]') AS device
            FROM records r ASOF JOIN autocast_rows i ON i.lane = r.lane AND r."row" >= i."row"
            WHERE r.kind = 'op' AND r.phase IN ('setup', 'forward') AND i.entered IS NOT NULL)
        SELECT r.file, r.line, count(*) FILTER (WHERE o.castable) AS times, r.device, r.dtype, NULL AS at_file, NULL AS at_line,
            first(o.op ORDER BY o."row") FILTER (WHERE o.castable) AS op,
            first(o.dtype || ' on ' || split_part(o.device, ':', 1) ORDER BY o."row") FILTER (WHERE o.castable) AS computed
        FROM ops o JOIN autocast_regions r ON r.lane = o.lane AND r.entered = o.entered AND r.enabled
        GROUP BY r.file, r.line, r.device, r.dtype
        HAVING bool_or(o.castable AND o.dtype IN ('float32', 'float64')) AND NOT coalesce(bool_or(o.dtype = r.dtype), false)
        UNION ALL
        SELECT e.file, e.line, count(*) AS times, e.device, e.dtype, NULL, NULL, first(r.op ORDER BY r."row"),
            first(r.dtype || ' on ' || split_part(r.device, ':', 1) ORDER BY r."row")
        FROM events e ASOF JOIN (
            SELECT *, json_extract_string(out, '$[0][0]') AS dtype, json_extract_string(out, '$[0][3]') AS device
            FROM records WHERE regexp_matches(op, ?) AND phase IN ('setup', 'forward')) r
            ON r.lane = e.lane AND r."row" >= e."row"
        WHERE e.kind = 'autocast' AND e.op = 'refused' GROUP BY e.file, e.line, e.device, e.dtype""",
    "left-open": """SELECT r.file, r.line, count(DISTINCT r.entered) AS times, r.device, r.dtype, NULL AS at_file, NULL AS at_line,
            NULL AS op, NULL AS computed
        FROM autocast_regions r JOIN events e ON e.lane = r.lane AND e.kind = 'backward' AND e.graph AND e.nth > r.entered
        WHERE r.enabled AND r."left" IS NULL AND list_contains(?, r.lane)
        GROUP BY r.file, r.line, r.device, r.dtype ORDER BY min(r.entered)""",
    # a loss that was multiplied last is scaled manually
    "no-scaler": """WITH passes AS (
            SELECT *, lag(nth, 1, -1) OVER (PARTITION BY lane ORDER BY nth) AS earlier FROM events WHERE kind = 'backward' AND graph)
        SELECT e.file, e.line, count(DISTINCT e.nth) AS times, r.device, r.dtype, first(r.file ORDER BY r.entered) AS at_file,
            first(r.line ORDER BY r.entered) AS at_line, NULL AS op, NULL AS computed
        FROM passes e JOIN autocast_regions r ON r.lane = e.lane AND r.entered < e.nth AND coalesce(r."left", e.nth) > e.earlier
        LEFT JOIN records l ON l.lane = e.lane AND l."row" = e.root
        WHERE r.enabled AND r.dtype = 'float16' AND coalesce(l.op, '') NOT GLOB 'aten.mul*'
            AND EXISTS (SELECT 1 FROM events WHERE kind = 'step')
            AND EXISTS (SELECT 1 FROM records WHERE phase = 'backward' AND starts_with(out, '[["float16"'))
            AND NOT EXISTS (FROM records WHERE op GLOB 'aten._amp_foreach_non_finite_check_and_unscale_*')
        GROUP BY e.file, e.line, r.device, r.dtype ORDER BY min(e.nth)""",
}


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line: the line of backward(), or the line that enters the region if the region is the fault.

    A region can be called left open only in a lane that ended normally and was recorded completely. A backward pass without a graph
    raises an error, and gives no hit.
    """
    run = runs[0]
    if not run.query("SELECT 1 FROM events WHERE kind = 'autocast' LIMIT 1"):
        return
    plan = run.run.meta.get("plan") or {}
    throughout = plan.get("level", "ops") == "ops" and not plan.get("window")
    ended = [lane.name for lane in run.run.lanes.values() if lane.ended and throughout]
    asked: dict[str, list[object]] = {
        "no-scaler": [],
        "without-effect": [_CAST, _CAST],
        "left-open": [ended],
        "backward-within": [ended, _CAST, _CAST],
    }
    told = set()
    for row in run.query(_QUESTIONS[params.fault], *asked[params.fault]):
        if (row["file"], row["line"]) in told:
            continue  # the same line in a region for another device
        told.add((row["file"], row["line"]))
        same = row["at_line"] is None or (row["at_file"], row["at_line"]) == (row["file"], row["line"])
        values = {
            "device": row["device"], "dtype": row["dtype"], "op": row["op"] or "", "computed": row["computed"] or "",
            "effect": _effect(row.get("products"), row["dtype"]),
            "region": "" if same else f" of {row['at_file']}:{row['at_line']}",
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["times"])


def _effect(products: int | None, dtype: str) -> str:
    if not products:
        return f"a float32 product in it would be rounded to {dtype} as well"
    return f"{products} of its products for float32 layers are rounded to {dtype}"


DETECTOR = Detector("autocast", _find, Params, frozenset({"device", "dtype", "op", "computed", "region", "effect"}))
