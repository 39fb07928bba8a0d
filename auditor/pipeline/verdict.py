"""What a comparison of two runs comes to: the verdict, how often they differ, what was lost."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import auditor
from auditor.compare import Comparison, before_the_end, compare
from auditor.experiment import wilson
from auditor.launch import outcome, with_original_paths
from auditor.pipeline.coverage import lost_of
from auditor.pipeline.recorder_check import first_differing_step
from auditor.plan import Plan
from auditor.results import END, Audit, Coverage, Divergence, Intermittent, Place, Reason
from auditor.source import Flow
from auditor.trace.reader import LaneTrace, Trace

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)')


def conclude(script: list[str], runs: list[Trace], comparison: Comparison, plan: Plan | None) -> Audit:
    """Put together what was found."""
    a, b = runs[0], runs[1]
    outcomes = [outcome(run) for run in runs]
    divergence = comparison.divergence
    result = Audit(
        verdict="diverged", script=script, runs=outcomes, divergence=divergence, others=comparison.others,
        side=comparison.side, notes=list(comparison.notes), version=auditor.__version__,
        coverage=Coverage(lanes=len(set(a.lanes) & set(b.lanes)), ops=comparison.compared, lost=lost_of(runs[:2])),
    )  # fmt: skip
    if divergence is not None:
        return result
    if any(recorded(run) != ("ops", None) for run in (a, b)):
        step = first_differing_step(a, b)
        if step is not None:
            result.notes.append(Reason.of("steps-differ", **step.parameters))
            return result
    reason = _why_unsure(a, b, plan)
    if reason is None and a.meta.get("exit") != b.meta.get("exit"):
        result.divergence = failed(a, b)
        return result
    result.verdict = "inconclusive" if reason else "no-divergence-seen"
    result.reason = reason
    return result


def _why_unsure(a: Trace, b: Trace, plan: Plan | None) -> Reason | None:
    """Why equal traces do not mean that the runs agree."""
    for run in (a, b):
        cut_short = why_not_whole(run, plan)
        if cut_short is not None:
            return cut_short.model_copy(update={"parameters": cut_short.parameters | {"agree": True}})
    if a.meta.get("exit") and a.meta.get("exit") == b.meta.get("exit"):
        return Reason.of("script-failed", error=a.meta.get("error"), status=a.meta["exit"])
    return None


def why_not_whole(run: Trace, plan: Plan | None) -> Reason | None:
    """Why a run is not all that the script would have done; None if it is. A script that was to end after N steps is whole."""
    if run.unfinished is not None:
        return Reason.of("still-going" if run.unfinished == "still-going" else "unfinished", run=run.id)
    if run.meta.get("stopped") == "timeout":
        return Reason.of("timeout", run=run.id, seconds=plan.timeout or None if plan else None)
    if run.meta.get("stopped") == "stalled":
        return Reason.of("stalled", run=run.id)
    if run.meta.get("stopped"):
        return Reason.of("interrupted", run=run.id)
    for lane in run.lanes.values():
        why = lane.facts["stopped"]
        if why not in ("", "steps", "look"):
            return Reason.of("recording-stopped", run=run.id, why=why)
    return None


def ended_otherwise(a: Trace, b: Trace) -> bool:
    """Whether two runs came to their ends, and not to the same."""
    return (
        a.meta.get("exit") != b.meta.get("exit")
        and not any(run.unfinished for run in (a, b))
        and not outcome(a).stopped
        and not outcome(b).stopped
    )


def compared(a: Trace, b: Trace, flow: Flow | None = None, strict: bool = False) -> Comparison:
    """Compare two runs; that they did the same ops and ended differently is a difference, too.

    Unless `strict`, a difference that is shown to reach no part of the training is told apart.
    """
    comparison = compare(a, b, flow=flow, training=not strict)
    return replace(comparison, divergence=failed(a, b)) if comparison.divergence is None and ended_otherwise(a, b) else comparison


def failed(a: Trace, b: Trace) -> Divergence:
    """The runs did the same ops and ended differently."""
    main = a.main
    last = main.rows(main.facts["records"] - 1, main.facts["records"] - 1) if main is not None else []
    row = last[0] if last else None
    where: dict[str, Any] = {} if row is None else {key: getattr(row, key) for key in ("step", "file", "line", "function", "code")}
    bad = _failing(a, b)
    ended = Reason.of("failed-at-the-end", run=bad.id, error=bad.meta.get("error"), status=bad.meta.get("exit"))
    return Divergence(
        runs=[a.id, b.id], kind="failed", lane=main.name if main else "main", index=(row.index if row else 0) + 1,
        phase=(row.phase if row else None) or "", op=END, detail=before_the_end(a, b), reasons=[ended], **where,
    )  # fmt: skip


def raised_at(a: Trace, b: Trace) -> Place | None:
    """The last line of the user's in the traceback of the one of two runs that failed."""
    bad = _failing(a, b)
    printed = bad.printed("stderr")
    if printed is None:
        return None
    said = with_original_paths(printed.decode(errors="replace"), (bad.meta.get("plan") or {}).get("copies") or ()) or ""
    cwd, code = str(bad.meta.get("cwd")), said[said.rfind(_TRACEBACK) :].splitlines() if _TRACEBACK in said else []
    for k in range(len(code) - 1, -1, -1):
        frame = _FRAME.match(code[k])
        if frame is not None and Path(frame["file"]).is_relative_to(cwd) and "site-packages" not in frame["file"]:
            text = code[k + 1].strip() if k + 1 < len(code) and code[k + 1].startswith("    ") else None
            file = str(Path(frame["file"]).relative_to(cwd))
            return Place(file=file, line=int(frame["line"]), function=frame["function"], code=text)
    return None


def _failing(a: Trace, b: Trace) -> Trace:
    """The one of two runs that failed; the second, if neither or both did."""
    return next((run for run in (b, a) if run.meta.get("exit")), b)


def recorded(run: Trace) -> tuple[str, tuple[int, ...] | None]:
    """At which level a run was recorded, and in which window of steps."""
    plan = run.meta.get("plan") or {}
    return plan.get("level", "ops"), tuple(plan["window"]) if plan.get("window") else None


def rate(runs: list[Trace], lane: str, first: int | None = None) -> Intermittent | None:
    """How often two runs differed in this lane, up to its op `first` if that is given; None if always."""
    groups: list[list[Trace]] = []
    for run in runs:
        if lane not in run.lanes:
            continue
        for group in groups:
            if _did_the_same(group[0], run, lane, first):
                group.append(run)
                break
        else:
            groups.append([run])
    some = sum(map(len, groups))
    pairs = some * (some - 1) // 2
    agreeing = sum(len(group) * (len(group) - 1) // 2 for group in groups)
    if not agreeing:
        return None
    apart, others = some - max(map(len, groups)), some - 1
    low, high = wilson(apart, others)
    names = [[run.id for run in group] for group in groups]
    return Intermittent(differing=pairs - agreeing, pairs=pairs, groups=names, apart=apart, others=others, low=low, high=high)


def _did_the_same(a: Trace, b: Trace, lane: str, first: int | None) -> bool:
    """Whether two runs did the same in a lane, and ended alike; a run that was ended early is asked as far as it went."""
    if first is not None:
        ours, theirs = (run.lanes[lane].compared[0][: first + 1] for run in (a, b))
        return len(ours) == len(theirs) and bool((ours == theirs).all())
    if not agree(a.lanes[lane], b.lanes[lane]) or ended_otherwise(a, b):
        return False
    early = outcome(a).stopped or outcome(b).stopped
    return bool(early) or len(a.lanes[lane].compared[0]) == len(b.lanes[lane].compared[0])


def parting(a: Trace, b: Trace, lane: str) -> int | None:
    """The place in a lane, counted as `rate` does, from which on two runs are not the same; None if they are."""
    if lane not in a.lanes or lane not in b.lanes:
        return None
    x, y = a.lanes[lane].compared[0], b.lanes[lane].compared[0]
    both = min(len(x), len(y))
    other = (x[:both] != y[:both]).nonzero()[0]
    if len(other):
        return int(other[0])
    return None if len(x) == len(y) or outcome(a).stopped or outcome(b).stopped else both


def agree(a: LaneTrace, b: LaneTrace) -> bool:
    """Whether two lanes are equal as far as both go: a run that was ended after value capture goes less far."""
    x, y = a.compared[0], b.compared[0]
    both = min(len(x), len(y))
    return bool((x[:both] == y[:both]).all())
