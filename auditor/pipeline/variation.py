"""Goes on when the controls agree: varies what should make no difference, and finds out which of it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from auditor.compare import Comparison, compare
from auditor.experiment import Found, Trial, search_varied
from auditor.experiment import Search as State
from auditor.pipeline.causes import Conclusion, explain, go, summary, unfinished
from auditor.pipeline.differences import seen_at
from auditor.pipeline.experiment_runner import ExperimentRunner
from auditor.pipeline.rounding import Drift, decided_differently, drift_of_losses, drift_of_output, due
from auditor.pipeline.verdict import compared
from auditor.plan import Plan, Watch
from auditor.results import Cause, Reason
from auditor.trace.reader import Trace

#: Further controls that are made if the script seems not to do the same each time although the first two do.
_FURTHER_CONTROLS = 4


def explain_varied(runner: ExperimentRunner, names: Sequence[str], asked: bool = False) -> Conclusion:
    """Vary what should make no difference, and find out which of it does; how numbers are computed is varied by itself.

    Otherwise the rounding of the first product would hide everything behind it. That results are rounded differently is told where they
    end by more than rounding apart, or where the user `asked` for these factors. A script that does not do the same each time may do so in
    both controls and in no varied run: where that is how it looks, more controls are made, and if they differ they are explained.
    """
    causes: list[Cause] = []
    aside: list[str] = []
    given_up: list[Reason] = []
    comparison = Comparison(None)
    rounded: list[str] = []
    for numerical in (False, True):
        some = [name for name in names if (name in runner.factors.common) is numerical and name not in runner.factors.left_out]
        runner.whole = some
        trials: list[Trial] = []
        # another result of an op points to timing first; where numerics were varied it comes from these
        intermittent = {name for name, factor in runner.factors.all.items() if factor.entropy or (factor.intermittent and not numerical)}
        state = go(runner, partial(search_varied, some, intermittent=intermittent), trials)
        confirmed = {} if state.unexplained is not None else {found.factor: _confirmed_by(runner, found) for found in state.found}
        if state.unexplained is not None or None in confirmed.values():
            differing = _differing_further(runner)
            if differing is not None:
                return explain(runner, differing)
        if state.unexplained is not None:
            state = go(runner, partial(search_varied, some, intermittent=intermittent & {found.factor for found in state.found}), trials)
            confirmed = {found.factor: _confirmed_by(runner, found) for found in state.found}
        aside += state.aside
        given_up += unfinished(runner, state)
        for found in state.found:
            drift = _drift(runner, found) if numerical else None
            if numerical and not asked and not _matters(runner, found, drift):
                rounded.append(found.factor)
                continue
            causes.append(_varied_cause(runner, found, confirmed[found.factor], drift))
            if not numerical and comparison.divergence is None:
                comparison = runner.differences.of(found.seen).comparison
    found_out = summary(runner, State(None, aside=tuple(aside)), varied=[name for name in names if name not in runner.factors.left_out])
    found_out.rounded = rounded
    return Conclusion(comparison, causes, found_out, given_up)


def _drift(runner: ExperimentRunner, found: Found) -> Drift | None:
    """How far what the script computes is apart in the end from that of the controls."""
    a, b = runner.controls[0], runner.run(found.held.runs[0])
    return drift_of_losses(a, b) or drift_of_output(a, runner.controls[1], b)


def _matters(runner: ExperimentRunner, found: Found, drift: Drift | None) -> bool:
    """Whether a difference of rounding has become another result."""
    a, b = runner.controls[0], runner.run(found.held.runs[0])
    return a.meta.get("exit") != b.meta.get("exit") or decided_differently(a, b) or (drift is not None and drift.size > due(a))


def _confirmed_by(runner: ExperimentRunner, found: Found) -> list[str] | None:
    """The name of one more run with a factor varied that differs as well, None if it does not; only rounding needs no such run."""
    if runner.factors[found.factor].numerical and runner.differences.of(found.seen).divergence.kind == "kernel":
        return []
    (again,) = runner.make(runner.plan_with(varied=[found.factor]), f"vary-{found.factor}", 1, "experiment", Reason.of("differs-again"))
    seen = runner.show(runner.controls[0], again)
    return [again.id] if seen is not None and found.seen.lane in seen.places else None


def _differing_further(runner: ExperimentRunner) -> Comparison | None:
    """Make more controls, until one differs from the first."""
    left = _FURTHER_CONTROLS
    while left > 0:
        more = runner.make(runner.plan_with(), "control", min(left, 2), "control", Reason.of("same-each-time"))
        left -= len(more)
        runner.controls += more
        for trace in more:
            comparison = compared(runner.controls[0], trace, runner.source.flow, runner.strict)
            if comparison.divergence is not None:
                return comparison
    return None


def _varied_cause(runner: ExperimentRunner, found: Found, confirmed: list[str] | None, drift: Drift | None) -> Cause:
    factor = runner.factors[found.factor]
    shown = runner.differences.of(found.seen)
    place, doing = runner.differences.entered_at(found.factor, shown)
    others = found.returned.runs if found.returned is not None else ()
    reasons = _size(runner, found, drift) if factor.numerical else [doing, Reason.of("factor-varies", why=factor.why)]
    reasons += [] if confirmed is not None else [Reason.of("differed-once")]
    return Cause(
        factor=found.factor, proved=confirmed is not None, kind=shown.divergence.kind, grade="numerical" if factor.numerical else "logical",
        reasons=reasons, fix=factor.remedy, because=factor.because, between=list(shown.divergence.runs),
        seen_at=seen_at(shown.divergence), proof=[runner.controls[0].id, *found.held.runs, *(confirmed or ()), *others],
        file=place.file, line=place.line, function=place.function, code=place.code,
    )  # fmt: skip


def _size(runner: ExperimentRunner, found: Found, drift: Drift | None) -> list[Reason]:
    """How large a numerical difference is: at the op that shows it first, and in the end."""
    shown = runner.differences.of(found.seen)
    divergence = shown.divergence
    watch = shown.comparison.watch
    at_most: float | None = None
    if watch is not None:
        closely = compare(
            _looked(runner, runner.plan_with(), watch), _looked(runner, runner.plan_with(varied=[found.factor]), watch)
        ).divergence
        evidence = closely.detail.evidence if closely is not None else None
        sizes = [one.absolute for one in evidence.outputs if one.absolute is not None] if evidence is not None else []
        at_most = max(sizes, default=None)
    changes = runner.factors[found.factor].changes
    changed = Reason.of("results-changed", changes=changes, index=divergence.index, op=divergence.op, at_most=at_most)
    return [changed] if drift is None else [changed, drift.reason]


def _looked(runner: ExperimentRunner, plan: Plan, watch: Watch) -> Trace:
    """A run of a plan that has kept the values there, made if there is none."""
    watched = [asdict(watch)]
    for trace in runner.runs.made:
        if trace.meta.get("varied") == list(plan.varied) and trace.meta["plan"].get("watch") == watched:
            return trace
    stem = f"look-{'+'.join(plan.varied) or 'base'}"
    return runner.make(plan.with_watch(watch), stem, 1, "look", Reason.of("how-large"))[0]
