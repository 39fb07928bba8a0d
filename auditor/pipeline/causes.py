"""Goes on when two runs differ: makes the runs that `experiment` asks for until it knows which factors make them differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from auditor.compare import Comparison
from auditor.experiment import Found, Trial, search
from auditor.experiment import Search as State
from auditor.pipeline.laboratory import Laboratory, seen_at
from auditor.pipeline.looks import closer, look_closely
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


def explain(lab: Laboratory, comparison: Comparison) -> Conclusion:
    """Find out which factors make the controls differ.

    A difference to which nothing that was seen gives a hint is looked at closely before: that tells what was read before it, and an
    origin from a carrier.
    """
    a, b = lab.controls[0], _differing(lab.controls, comparison)
    divergence = comparison.divergence
    looked = False
    if comparison.watch is not None and divergence is not None and not lab.suspicion(divergence, a).founded:
        comparison = look_closely(lab.plan_with(), comparison, lab.make, lab.flow)
        looked = True
    first_run = lab.runs.made[-1] if looked else a
    lab.intermittent = _intermittent(lab, comparison)
    first = lab.show(first_run, b, comparison)
    assert first is not None
    along = {name: factor.along for name, factor in lab.factors.items()}
    state = _settled(lab, lambda trials: search(lab.available, first, trials, lab.common, along))
    causes = [_cause(lab, found) for found in state.found]
    if not looked and comparison.watch is not None:
        seen_again = [lab.shown(found.returned.seen) for found in state.found if found.returned and found.returned.seen]
        better = next(filter(None, (closer(comparison, one.comparison) for one in seen_again)), None)
        comparison = better or (look_closely(lab.plan_with(), comparison, lab.make, lab.flow) if not seen_again else comparison)
    if comparison.divergence is not None:
        since = next((lab.often(found) for found in state.found if found.seen is first), None)
        comparison.divergence.intermittent = lab.intermittent or since or comparison.divergence.intermittent
    return Conclusion(comparison, causes, summary(lab, state, pinned=_all_held(lab, state)), unfinished(lab, state))


def _differing(controls: list[Trace], comparison: Comparison) -> Trace:
    runs = comparison.divergence.runs if comparison.divergence is not None else []
    return next((trace for trace in controls[1:] if trace.id in runs), controls[1])


def _intermittent(lab: Laboratory, comparison: Comparison) -> Intermittent | None:
    # where runs leave something behind, those of a look are the first and the second again
    roles = ("control",) if lab.changed else ("control", "look")
    free = [trace for trace in lab.runs.made if trace.meta.get("role") in roles]
    if comparison.divergence is None:
        return None
    lane = comparison.divergence.lane
    drawn = comparison.divergence.kind == "draw"
    found = rate(free, lane, None if drawn else parting(lab.controls[0], _differing(lab.controls, comparison), lane))
    if found is not None and lab.changed and found.groups[:1] == [[lab.controls[0].id]] and len(found.groups) == 2:
        return None  # each but the first found what the first left
    return found


def _settled(lab: Laboratory, step: Callable[[list[Trial]], State]) -> State:
    """Go to the end of a search, and on if what it found may be luck."""
    trials: list[Trial] = []
    while True:
        state = go(lab, step, trials)
        weak = next((found for found in state.found if lab.runs_missing(found)), None)
        if weak is None or state.wanted is not None:
            return state
        trials[trials.index(weak.held)] = lab.repeated(weak)


def go(lab: Laboratory, step: Callable[[list[Trial]], State], trials: list[Trial]) -> State:
    """Make what a search wants until it wants no more."""
    while True:
        state: State = step(trials)
        if state.wanted is None or len(trials) >= TRIALS or lab.timed_out:
            return state
        trials.append(lab.try_out(state.wanted))


def _all_held(lab: Laboratory, state: State) -> list[str]:
    """What "all" was: without what two runs have in common anyway, unless that was needed or did not help."""
    needed = state.beyond is not None or any(found.factor in lab.common for found in state.found)
    return [name for name in lab.available if name not in state.aside and (needed or name not in lab.common)]


def unfinished(lab: Laboratory, state: State) -> list[Reason]:
    """Why a search was not gone through with, if it was not."""
    if state.wanted is None:
        return []
    return [Reason.of("search-timed-out") if lab.timed_out else Reason.of("search-given-up", trials=TRIALS)]


def summary(lab: Laboratory, state: State, pinned: Sequence[str] = (), varied: Sequence[str] = ()) -> Search:
    """What was tried, as the audit keeps it."""
    left_out = dict(lab.left_out) | {name: lab.why_aside(name) for name in state.aside}
    possible: list[Reason] = []
    if state.beyond is not None:
        shown = lab.shown(state.beyond).divergence
        possible.append(Reason.of("beyond-factors", file=shown.file, line=shown.line, index=shown.index, kind=shown.kind))
        if state.aside:
            possible.append(Reason.of("or-unbearable", factors=[*state.aside]))
    return Search(pinned=list(pinned), varied=list(varied), left_out=left_out, beyond=state.beyond is not None, possible=possible)


def _cause(lab: Laboratory, found: Found) -> Cause:
    """A factor that was found, with its line and its proof."""
    factor = lab.factors[found.factor]
    original = lab.shown(found.seen)
    shown = lab.shown(found.returned.seen) if found.returned is not None and found.returned.seen is not None else original
    place, doing = lab.entered_at(found.factor, shown)
    enough = len(found.held.runs) >= lab.runs_needed(found)
    proved = found.returned is not None and enough
    reasons = [doing, Reason.of("factor-varies", why=factor.why)]
    if found.beside:
        reasons.append(Reason.of("also-pinned", factors=[*found.beside]))
    if not enough:
        reasons.append(Reason.of("chance", runs=len(found.held.runs), needed=lab.runs_needed(found)))
    elif found.returned is None:
        reasons.append(Reason.of("pinned-otherwise"))
    return Cause(
        factor=found.factor, proved=proved, kind=original.divergence.kind, grade="numerical" if factor.numerical else "logical",
        because=factor.because, reasons=reasons, fix=factor.remedy, between=list(original.divergence.runs),
        seen_at=seen_at(original.divergence),
        proof=[*original.divergence.runs, *found.held.runs, *(found.returned.runs if found.returned else ())],
        file=place.file, line=place.line, function=place.function, code=place.code,
    )  # fmt: skip
