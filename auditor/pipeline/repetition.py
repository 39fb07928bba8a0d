"""How often a difference shows, and how many runs must agree with a factor pinned so that it is no luck."""

from __future__ import annotations

from dataclasses import replace

from auditor.experiment import Found, Seen, Trial, runs_needed
from auditor.pipeline.experiment_runner import ExperimentRunner, needed_at
from auditor.pipeline.verdict import parting, rate
from auditor.results import Intermittent, Reason


def rate_of(runner: ExperimentRunner, found: Found) -> Intermittent | None:
    """How often a difference showed in the runs in which the factor that makes it was free; None if in each."""
    if runner.differences.of(found.seen).divergence.kind == "draw":
        return runner.intermittent  # its stream is in another state in each run, whatever is done with the numbers
    if runner.factors[found.factor].between_runs:
        return None  # the first of several runs is always another one than the rest
    pair = runner.pair_of(found.seen)
    names = {trace.id for trace in pair} | set(found.returned.runs if found.returned is not None else ())
    usual = names & {trace.id for trace in runner.controls}
    free = [trace for trace in runner.runs.made if trace.id in names or (usual and trace.meta.get("role") in ("control", "look"))]
    return rate(free, found.seen.lane, parting(*pair, found.seen.lane))


def runs_missing(runner: ExperimentRunner, found: Found) -> int:
    """How many more runs must agree with the factor held still, as far as that many are made at all."""
    return max(min(enough_runs(runner, found), runner.most_runs) - len(found.held.runs), 0)


def enough_runs(runner: ExperimentRunner, found: Found) -> int:
    """How many runs must agree with the factor held still, so that it is no luck."""
    often = rate_of(runner, found)
    if often is None:
        return 2
    if found.held.seen is not None or runner.pair_of(found.seen)[0] is not runner.controls[0]:
        return needed_at(often)
    # They agree to their ends: then it counts how often the controls do so, and not only how often they do up to the difference.
    whole = rate(runner.controls, found.seen.lane)
    return min(needed_at(often), needed_at(whole) if whole is not None else runs_needed(len(runner.controls) - 1, len(runner.controls) - 1))


def repeated(runner: ExperimentRunner, found: Found) -> Trial:
    """The trial that showed a factor, with as many more runs as are missing, or until one shows the difference again."""
    trial = found.held
    plan = runner.plan_with([name for name in runner.factors.in_order if name in trial.factors])
    base = runner.run(trial.runs[0])
    left = runs_missing(runner, found)
    while left > 0:
        more = runner.make(plan, base.id.rpartition("-")[0], min(left, 2), "experiment", Reason.of("is-it-luck", factor=found.factor))
        left -= len(more)
        for trace in more:
            seen = runner.show(base, trace)
            if seen is not None and (trial.seen is None or _comes_before(seen, trial.seen, found.seen.lane)):
                trial = replace(trial, seen=seen)
        trial = replace(trial, runs=(*trial.runs, *(trace.id for trace in more)))
        if trial.seen is not None and not _comes_before(found.seen, trial.seen, found.seen.lane):
            break
    return trial


def _comes_before(a: Seen, b: Seen, lane: str) -> bool:
    """Whether a difference shows in a lane before another one does there."""
    return lane in a.places and (lane not in b.places or a.places[lane] < b.places[lane])
