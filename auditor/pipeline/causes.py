"""Goes on when two runs differ: makes the runs that `experiment` asks for until it knows which factors make them differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from auditor.compare import Comparison
from auditor.experiment import Found, Trial, search
from auditor.experiment import Search as State
from auditor.pipeline.differences import seen_at
from auditor.pipeline.experiment_runner import ExperimentRunner
from auditor.pipeline.repetition import enough_runs, rate_of, repeated, runs_missing
from auditor.pipeline.value_capture import capture_values, closer
from auditor.pipeline.verdict import parting, rate
from auditor.results import Cause, Intermittent, Reason, Search
from auditor.trace.reader import Trace

#: Trials at most; a search that needs more is told of as unfinished.
TRIALS = 40


class Conclusion(NamedTuple):
    """What a search came to; the comparison is the first one, with what was seen more closely since."""

    comparison: Comparison
    causes: list[Cause]
    search: Search
    notes: list[Reason]


def explain(runner: ExperimentRunner, comparison: Comparison) -> Conclusion:
    """Find out which factors make the controls differ.

    A difference to which nothing that was seen gives a hint is looked at closely before: that tells what was read before it, and an
    origin from a carrier.
    """
    a, b = runner.controls[0], _differing(runner.controls, comparison)
    divergence = comparison.divergence
    looked = False
    if comparison.watch is not None and divergence is not None and not runner.differences.suspicion(divergence, a).founded:
        comparison = capture_values(runner.plan_with(), comparison, runner.make, runner.source.flow)
        looked = True
    first_run = runner.runs.made[-1] if looked else a
    runner.intermittent = _intermittent(runner, comparison)
    first = runner.show(first_run, b, comparison)
    assert first is not None
    also_pins = {name: factor.also_pins for name, factor in runner.factors.all.items()}
    state = _settled(runner, lambda trials: search(runner.factors.available, first, trials, runner.factors.common, also_pins))
    causes = [_cause(runner, found) for found in state.found]
    if not looked and comparison.watch is not None:
        seen_again = [runner.differences.of(found.returned.seen) for found in state.found if found.returned and found.returned.seen]
        better = next(filter(None, (closer(comparison, one.comparison) for one in seen_again)), None)
        if better is None and not seen_again:
            better = capture_values(runner.plan_with(), comparison, runner.make, runner.source.flow)
        comparison = better or comparison
    if comparison.divergence is not None:
        since = next((rate_of(runner, found) for found in state.found if found.seen is first), None)
        comparison.divergence.intermittent = runner.intermittent or since or comparison.divergence.intermittent
    return Conclusion(comparison, causes, summary(runner, state, pinned=_all_held(runner, state)), unfinished(runner, state))


def _differing(controls: list[Trace], comparison: Comparison) -> Trace:
    runs = comparison.divergence.runs if comparison.divergence is not None else []
    return next((trace for trace in controls[1:] if trace.id in runs), controls[1])


def _intermittent(runner: ExperimentRunner, comparison: Comparison) -> Intermittent | None:
    # where runs leave something behind, those of a look are the first and the second again
    roles = ("control",) if runner.folder.changed else ("control", "look")
    free = [trace for trace in runner.runs.made if trace.meta.get("role") in roles]
    if comparison.divergence is None:
        return None
    lane = comparison.divergence.lane
    drawn = comparison.divergence.kind == "draw"
    found = rate(free, lane, None if drawn else parting(runner.controls[0], _differing(runner.controls, comparison), lane))
    if found is not None and runner.folder.changed and found.groups[:1] == [[runner.controls[0].id]] and len(found.groups) == 2:
        return None  # each but the first found what the first left
    return found


def _settled(runner: ExperimentRunner, step: Callable[[list[Trial]], State]) -> State:
    """Go to the end of a search, and on if what it found may be luck."""
    trials: list[Trial] = []
    while True:
        state = go(runner, step, trials)
        weak = next((found for found in state.found if runs_missing(runner, found)), None)
        if weak is None or state.wanted is not None:
            return state
        trials[trials.index(weak.held)] = repeated(runner, weak)


def go(runner: ExperimentRunner, step: Callable[[list[Trial]], State], trials: list[Trial]) -> State:
    """Make what a search wants until it wants no more."""
    while True:
        state: State = step(trials)
        if state.wanted is None or len(trials) >= TRIALS or runner.timed_out:
            return state
        trials.append(runner.try_out(state.wanted))


def _all_held(runner: ExperimentRunner, state: State) -> list[str]:
    """What "all" was: without what two runs have in common anyway, unless that was needed or did not help."""
    needed = state.unexplained is not None or any(found.factor in runner.factors.common for found in state.found)
    return [name for name in runner.factors.available if name not in state.aside and (needed or name not in runner.factors.common)]


def unfinished(runner: ExperimentRunner, state: State) -> list[Reason]:
    """Why a search was not gone through with, if it was not."""
    if state.wanted is None:
        return []
    return [Reason.of("search-timed-out") if runner.timed_out else Reason.of("search-given-up", trials=TRIALS)]


def summary(runner: ExperimentRunner, state: State, pinned: Sequence[str] = (), varied: Sequence[str] = ()) -> Search:
    """What was tried, as the audit keeps it."""
    left_out = dict(runner.factors.left_out) | {name: runner.why_aside(name) for name in state.aside}
    possible: list[Reason] = []
    if state.unexplained is not None:
        shown = runner.differences.of(state.unexplained).divergence
        possible.append(Reason.of("beyond-factors", file=shown.file, line=shown.line, index=shown.index, kind=shown.kind))
        if state.aside:
            possible.append(Reason.of("or-unbearable", factors=[*state.aside]))
    return Search(pinned=list(pinned), varied=list(varied), left_out=left_out, beyond=state.unexplained is not None, possible=possible)


def _cause(runner: ExperimentRunner, found: Found) -> Cause:
    """A factor that was found, with its line and its proof."""
    factor = runner.factors[found.factor]
    original = runner.differences.of(found.seen)
    shown = runner.differences.of(found.returned.seen) if found.returned is not None and found.returned.seen is not None else original
    place, doing = runner.differences.entered_at(found.factor, shown)
    enough = len(found.held.runs) >= enough_runs(runner, found)
    proved = found.returned is not None and enough
    reasons = [doing, Reason.of("factor-varies", why=factor.why)]
    if found.beside:
        reasons.append(Reason.of("also-pinned", factors=[*found.beside]))
    if not enough:
        reasons.append(Reason.of("chance", runs=len(found.held.runs), needed=enough_runs(runner, found)))
    elif found.returned is None:
        reasons.append(Reason.of("pinned-otherwise"))
    return Cause(
        factor=found.factor, proved=proved, kind=original.divergence.kind, grade="numerical" if factor.numerical else "logical",
        because=factor.because, reasons=reasons, fix=factor.remedy, between=list(original.divergence.runs),
        seen_at=seen_at(original.divergence),
        proof=[*original.divergence.runs, *found.held.runs, *(found.returned.runs if found.returned else ())],
        file=place.file, line=place.line, function=place.function, code=place.code,
    )  # fmt: skip
