"""What a comparison of two runs comes to: the verdict, how often they differ, what was lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import auditor
from auditor.compare import Comparison, before_the_end, compare
from auditor.experiment import wilson
from auditor.launch import outcome, told_of_originals
from auditor.plan import Plan
from auditor.report.words.text import counted, listed
from auditor.results import Audit, Coverage, Divergence, Intermittent, Lost, Place
from auditor.source import Flow
from auditor.trace.ops import BRANCHES_UNDER_A_MODE
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
        coverage=Coverage(lanes=len(set(a.lanes) & set(b.lanes)), ops=comparison.compared, lost=_lost(runs[:2])),
    )  # fmt: skip
    if divergence is not None:
        return result
    if any(recorded(run) != ("ops", None) for run in (a, b)):
        step = _first_differing_step(a, b)
        if step is not None:
            result.notes.append(f"the runs differ in {step}: to see the op, record the ops of that step (--window)")
            return result
    reason = _why_unsure(a, b, plan)
    if reason is None and a.meta.get("exit") != b.meta.get("exit"):
        result.divergence = failed(a, b)
        return result
    result.verdict = "inconclusive" if reason else "no-divergence-seen"
    result.reason = reason
    return result


def _why_unsure(a: Trace, b: Trace, plan: Plan | None) -> str | None:
    """Why equal traces do not mean that the runs agree."""
    for run in (a, b):
        cut_short = why_not_whole(run, plan)
        if cut_short is not None:
            return str(cut_short._replace(said=f"{cut_short.said}; the runs agree as far as they were recorded"))
    if a.meta.get("exit") and a.meta.get("exit") == b.meta.get("exit"):
        error = a.meta.get("error")
        status = a.meta["exit"]
        how = str(error) if error else f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"the script failed in both runs alike: {how} [script-failed]"
    return None


class Reason(NamedTuple):
    """Why nothing, or less than all, can be said."""

    slug: str
    said: str

    def __str__(self) -> str:
        return f"{self.said} [{self.slug}]"


def why_not_whole(run: Trace, plan: Plan | None) -> Reason | None:
    """Why a run is not all that the script would have done; None if it is. A script that was to end after N steps is whole."""
    if run.unfinished is not None:
        return Reason("still-going" if run.going else "unfinished", f"{run.id} {run.unfinished}")
    if run.meta.get("stopped") == "timeout":
        limit = f" after {plan.timeout:g} s" if plan and plan.timeout else ""
        return Reason("timeout", f"{run.id} was ended{limit}")
    if run.meta.get("stopped") == "stalled":
        return Reason("stalled", f"{run.id} made no progress for far longer than a whole run takes, and was ended")
    if run.meta.get("stopped"):
        return Reason("interrupted", f"{run.id} was interrupted")
    for lane in run.lanes.values():
        why = lane.facts["stopped"]
        if why not in ("", "steps", "look"):
            return Reason(why, f"recording of {run.id} stopped early{', there was no space left' if why == 'disk-full' else ''}")
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
    row = last[0] if last else {}
    bad = _failing(a, b)
    how = bad.meta.get("error") or f"exit status {bad.meta.get('exit')}"
    return Divergence(
        runs=[a.id, b.id], kind="failed", lane=main.name if main else "main", index=int(row.get("index", 0)) + 1, step=row.get("step"),
        phase=row.get("phase") or "", op="end of the run", file=row.get("file"), line=row.get("line"), function=row.get("function"),
        code=row.get("code"), detail=before_the_end(a, b),
        sentence=f"both runs did the same ops, and {bad.id} then ended with {how}; the line is that of the last op",
    )  # fmt: skip


def raised_at(a: Trace, b: Trace) -> Place | None:
    """The last line of the user's in the traceback of the one of two runs that failed."""
    bad = _failing(a, b)
    printed = bad.printed("stderr")
    if printed is None:
        return None
    said = told_of_originals(printed.decode(errors="replace"), (bad.meta.get("plan") or {}).get("copies") or ()) or ""
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


def check_recorder(result: Audit, seen: Trace, again: Trace, bare: Trace | None, steps_only: Trace) -> None:
    """Compare a recorded run with one without us, by output and exit status, and with one without a dispatch mode, by every step.

    Output that the two recorded runs do not share, such as a process id or a duration, shows nothing.
    """
    if result.verdict == "diverged" or any(run.meta.get("stopped") for run in (bare, steps_only) if run is not None):
        why = "the script does not do the same twice anyway" if result.verdict == "diverged" else "a run was ended early"
        result.notes.append(f"self-check: no answer, because {why}")
        return
    changed: list[str] = []
    same: list[str] = []
    unknown: list[str] = []
    for name in ("stdout", "stderr"):
        printed = (seen.path / name).read_bytes()
        if bare is None or (again.path / name).read_bytes() != printed:
            unknown.append(f"its {name}")
        else:
            (same if (bare.path / name).read_bytes() == printed else changed).append(f"its {name}")
    if bare is None:
        unknown.append("its exit status")
    else:
        (same if bare.meta.get("exit") == seen.meta.get("exit") else changed).append("its exit status")
    step = _first_differing_step(seen, steps_only)
    if step is not None:
        changed.append(step)
    if changed:
        result.coverage.lost.append(Lost(what=f"self-check: being recorded changed {listed(changed)}"))
        return
    said = [f"{listed(same)} are those of a run without us"] if same else []
    steps = seen.main.steps if seen.main is not None else 0
    if steps:
        held = seen.main is not None and any("parameters" in event for event in seen.main.events_of("step"))
        what = "losses, gradients, parameters and optimizer state" if held else "losses"  # without an optimizer nobody holds the rest
        said.append(f"{what} at each of {steps} steps are those of a run without a dispatch mode")
    if unknown:
        why = "not the same in two recorded runs" if bare is not None else "without us nobody ends the script after so many steps"
        said.append(f"{listed(unknown)} could not be checked: {why}")
    result.notes.append(f"self-check: {'; '.join(said)}")


def recorded(run: Trace) -> tuple[str, tuple[int, ...] | None]:
    """At which level a run was recorded, and in which window of steps."""
    plan = run.meta.get("plan") or {}
    return plan.get("level", "ops"), tuple(plan["window"]) if plan.get("window") else None


def _first_differing_step(a: Trace, b: Trace) -> str | None:
    """The first step of the main lane after which the two runs do not hold the same, and what is not the same."""
    lanes = [run.main.events_of("step") if run.main is not None else [] for run in (a, b)]
    for ours, theirs in zip(*lanes, strict=False):
        facts = {"loss_digest": "loss", "gradients": "gradients", "parameters": "parameters", "state": "optimizer state"}
        different = [name for fact, name in facts.items() if ours.get(fact) != theirs.get(fact)]
        if different:
            return f"the {listed(different)} at step {ours['step']}"
    counts = [run.main.steps if run.main is not None else 0 for run in (a, b)]
    said = listed([f"{counted(count, 'step')} in {run.id}" for count, run in zip(counts, (a, b), strict=True)])
    if counts[0] != counts[1]:
        return f"the number of steps ({said})"
    return None if len(lanes[0]) == len(lanes[1]) else "the number of optimizer steps"


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
    """Whether two lanes are equal as far as both go: a run that was ended after the closer look goes less far."""
    x, y = a.compared[0], b.compared[0]
    both = min(len(x), len(y))
    return bool((x[:both] == y[:both]).all())


_ON_DEVICE = (
    "results on CUDA are digested there, by kernels between the script's own, and the digests are read when an optimizer steps: "
    "this changes the timing and can hide a race"
)
_COPIED = "external tensors on CUDA are copied to the CPU to be digested: this synchronizes with the device and can hide a race"


def _lost(runs: list[Trace]) -> list[Lost]:
    """What the recorder knows that it missed, each once."""
    found: dict[tuple[str, str], Lost] = {}

    def add(what: str, count: int, lane: str, run: Trace) -> None:
        known = found.get((what, lane))
        if known is None:
            found[what, lane] = Lost(what=what, count=count, lane=lane, run=run.id)
        elif known.run != run.id:
            known.run = None  # both

    for run in runs:
        for name, what in _unseen_children(run):
            add(what, 1, name, run)
        for name, lane in run.lanes.items():
            for event in lane.events_of("lost"):
                add(event["what"], event.get("count", 1), name, run)
            if lane.facts["stopped"] not in ("", "steps", "look"):
                add(f"everything after recording stopped ({lane.facts['stopped']})", 1, name, run)
            elif not lane.ended and name == "main" and run.meta.get("exit") == 0:
                add("whatever ran after the process ended without its exit handlers (os._exit)", 1, name, run)
            if lane.facts["unknown"]:
                add("lines of the trace that this version does not know", lane.facts["unknown"], name, run)
            for row in lane.query(
                "SELECT op, count(*) AS n FROM records WHERE list_contains(?, op) GROUP BY op ORDER BY op", list(BRANCHES_UNDER_A_MODE)
            ):
                add(f"{row['op']}: under any dispatch mode torch takes another formula for its gradient", row["n"], name, run)
            for row in lane.query("SELECT kind, count(*) AS n FROM records WHERE out LIKE '%cuda%' GROUP BY kind ORDER BY kind"):
                add(_COPIED if row["kind"] == "external" else _ON_DEVICE, row["n"], name, run)
    return list(found.values())


def _unseen_children(run: Trace) -> Iterator[tuple[str, str]]:
    """The lane and the words for each process of Python that the script started and that was not recorded.

    A recorded process has told its number, after the one that started it had begun; the number of one that is replaced stays the same.
    """
    started = [(name, lane, event) for name, lane in run.lanes.items() for event in lane.events_of("child")]
    helpers = {event.get("pid") for _, _, event in started if event.get("helper")}
    met = [one for one in run.meta.get("unseen") or [] if helpers.isdisjoint(one["pids"])]
    told: set[tuple[str, object]] = set()
    for name, lane, event in started:
        pid = event.get("pid")
        seen = any(process.get("pid") == pid and (process.get("started") or 0) > (lane.facts["started"] or 0) for process in run.processes)
        if pid is None:  # a shell, while which was waited for
            unseen = any(
                lane.facts["pid"] in one["pids"][1:] and (event.get("since") or 0) <= one["at"] <= (event.get("until") or 0) for one in met
            )
        else:
            unseen = (event.get("python") and not seen) or any(pid in one["pids"][1:] for one in met)
        place = f"{event['file']}:{event['line']}" if event.get("file") else None
        if unseen and not event.get("helper") and (name, place) not in told:
            told.add((name, place))
            where = f"{event.get('program')}, started at {place}" if place else event.get("program")
            why = "Python was started with -I, -E or -S, has no repro-audit, or ended too early"
            yield name, f"what a child process did ({where}) was not recorded: {why}"
