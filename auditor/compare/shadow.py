"""A run in which each op was recomputed in higher precision or on another device -> which ops lost how much. Pure.

The error of an op here is its own: it was recomputed from the very inputs that it had, so nothing is inherited from the ops before.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from auditor.compare.mismatch import forward_place
from auditor.results import Detail, Divergence, OpError, Reason, Shadowed
from auditor.trace.reader import LaneTrace, Trace
from auditor.trace.records import Output

_MOST = 10

#: One row for each op of each line: the one that is off most, how often there were such, the first that exceeds its error bound.
_BY_LINE = """
WITH lines AS (
    SELECT r."row", e.added, e.ulps, e.mean, e.excess, e.slot, r.op, r.file, r.line, r.forward_file, r.forward_line
    FROM records r JOIN (
        SELECT "row", max(ulps) AS ulps, max(mean) AS mean, max(excess) AS excess, arg_max(slot, error / greatest(norm, 1e-300)) AS slot,
            max(CASE WHEN norm > 0 THEN error / norm WHEN error > 0 THEN 1e300 ELSE 0 END) AS added
        FROM read_parquet(?) GROUP BY "row") e USING ("row"))
SELECT arg_max("row", added) AS "row", arg_max(slot, added) AS slot, max(added) AS added, max(ulps) AS ulps, max(mean) AS mean,
    max(excess) AS excess, count(*) AS times, min("row") FILTER (excess > 1) AS off
FROM lines GROUP BY op, file, line, forward_file, forward_line ORDER BY added DESC, "row"
"""


def shadow_of(run: Trace, reference: str) -> Shadowed:
    """What the shadow found in a run. `reference`: what ops were recomputed in. Raises TraceError `trace-unreadable`."""
    entries: list[tuple[LaneTrace, dict[str, Any]]] = []
    unmeasured: Counter[str] = Counter()
    for lane in run.lanes.values():
        entries += [(lane, row) for row in _by_line(lane)]
        for event in lane.events_of("unshadowed"):
            unmeasured[f"{event.get('op') or '?'}: {event.get('why') or 'unknown'}"] += int(event.get("count") or 1)
    entries.sort(key=lambda entry: -entry[1]["added"])
    most = [_error(run, lane, row, row["row"]) for lane, row in entries[:_MOST] if row["added"] > 0]
    off = [(lane, row) for lane, row in entries if row["off"] is not None]
    off.sort(key=lambda entry: (entry[0] is not run.main, entry[1]["off"]))
    first = _exactly(run, *off[0]) if off else None
    ops = sum(row["times"] for _, row in entries)
    return Shadowed(
        run=run.id, reference=reference, ops=ops, first=first, most=most, unmeasured=dict(unmeasured.most_common()), lines_off=len(off)
    )


def divergence_of_shadow(found: Shadowed) -> Divergence | None:
    """The first op that exceeds its error bound, as a divergence of kind `arithmetic`; None if there is none."""
    first = found.first
    if first is None:
        return None
    return Divergence(
        runs=[found.run], kind="arithmetic", lane=first.lane, index=first.index, step=first.step, phase=first.phase, op=first.op,
        module=first.module, file=first.file, line=first.line, function=first.function, code=first.code,
        reasons=[_blame(first, found.reference)], detail=Detail(forward=first.forward),
    )  # fmt: skip


def _by_line(lane: LaneTrace) -> list[dict[str, Any]]:
    shadows = lane.beside(".shd")
    return lane.query(_BY_LINE, shadows) if shadows else []


def _exactly(run: Trace, lane: LaneTrace, entry: dict[str, Any]) -> OpError:
    """The first op of a line that exceeds its error bound, as it was then."""
    shadows = lane.shadows()
    at = max((k for k in range(len(shadows["row"])) if shadows["row"][k] == entry["off"]), key=lambda k: shadows["excess"][k])
    norm, error = float(shadows["norm"][at]), float(shadows["error"][at])
    exact = {
        "slot": int(shadows["slot"][at]), "added": error / norm if norm else 1e300, "ulps": float(shadows["ulps"][at]),
        "mean": float(shadows["mean"][at]), "excess": float(shadows["excess"][at]), "times": entry["times"],
    }  # fmt: skip
    return _error(run, lane, exact, entry["off"])


def _error(run: Trace, lane: LaneTrace, entry: dict[str, Any], row: int) -> OpError:
    (record,) = lane.rows(row, row)
    output = record.outputs[entry["slot"]] if entry["slot"] < len(record.outputs) else Output("")
    excess = entry["excess"]
    return OpError(
        index=record.index, op=record.op, phase=record.phase or "", step=record.step, file=record.file, line=record.line,
        function=record.function, code=record.code, module=record.module, run=run.id, lane=lane.name, forward=forward_place(record),
        dtype=output.dtype, shape=list(output.shape), added=min(entry["added"], 1e300), ulps=min(entry["ulps"], 1e300),
        mean_ulps=min(entry["mean"], 1e300),
        excess=None if excess < 0 else min(excess, 1e300),  # negative: no bound is known
        times=entry["times"],
    )  # fmt: skip


def _blame(error: OpError, reference: str) -> Reason:
    return Reason.of("off-from-reference", reference=reference, added=error.added, ulps=error.ulps, excess=error.excess)
