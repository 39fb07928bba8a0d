"""One audit from its controls to its findings: which runs are made, in which order, and what is concluded of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import auditor
from auditor import plugins
from auditor.compare import Comparison
from auditor.devices import Device
from auditor.errors import AuditError
from auditor.factors import plan_with
from auditor.launch import Snapshot, nothing_recorded, outcome, remove
from auditor.pipeline.causes import Conclusion, explain
from auditor.pipeline.concurrency import must_be_alone, ports_of
from auditor.pipeline.devices import (
    compare_elsewhere,
    default_devices,
    devices_of,
    on_first,
    recompute,
    wants_a_gpu,
)
from auditor.pipeline.experiment_runner import ExperimentRunner
from auditor.pipeline.explanations import attach_explanations
from auditor.pipeline.factor_choice import FactorChoice
from auditor.pipeline.fixes import mend
from auditor.pipeline.folders import folder_for, snapshot_of
from auditor.pipeline.frames import attach_frames
from auditor.pipeline.provenance import attach_effect, attach_failure, attach_rules, provenance_of, revision_of
from auditor.pipeline.recorder_check import check_recorder
from auditor.pipeline.reruns import CACHES, Reruns, Silent
from auditor.pipeline.rules import Standards, finite_look, judge_into
from auditor.pipeline.validation import check_options
from auditor.pipeline.variation import explain_varied
from auditor.pipeline.verdict import compared, conclude, why_not_whole
from auditor.pipeline.working_folder import WorkingFolder
from auditor.plan import AuditOptions, Plan, Selection
from auditor.results import Audit, Reason, Revision, RunOutcome, Search
from auditor.source import Flow
from auditor.tolerance import Tolerance
from auditor.trace.reader import Trace

#: Steps in which devices are compared if nobody asked for it.
UNASKED_STEPS = 10


def audit(
    plan: Plan,
    keep: Path | None = None,
    screen: Any = None,
    options: AuditOptions | None = None,
    self_check: bool = False,
    rules: Selection | None = None,
) -> Audit:
    """Run the plan twice, compare, find out why the runs differ, and judge the first run by the rules.

    `keep` is the directory for the runs (default: a new one in the user's cache); `options` says how far to go; `self_check` adds two runs
    that show whether being recorded changed what the script does; `rules` chooses among the rules (default: all that are shipped).
    Raises `AuditError` if a rule is wrong, a run could not be made or nothing was recorded in it.
    """
    screen, options = screen or Silent(), options or AuditOptions()
    chosen = check_options(plan, options)
    plan = on_first(plan, chosen)
    standards = Standards.of(rules or Selection())
    folder = folder_for(keep, plan)
    runs, revision = Reruns(folder, screen), revision_of(plan)
    snapshot = snapshot_of(plan, folder) if options.explains else None
    try:
        usual = plan_with(plan, plugins.factors(), options.pin, ())
        first = runs.one(usual, "control-1", "control")
        nothing = nothing_recorded(first)
        if nothing is not None:
            return _inconclusive(plan, first, nothing, revision)
        controls = [first, *(runs.one(usual, f"control-{k}", "control") for k in range(2, options.runs + 1))]
        screen.say("comparing")
        runner = _runner(plan, runs, controls, options, snapshot)
        result = _compared(runner, options)
        looked = finite_look(plan, first, standards.rules, runs) if options.explains else None
        _look_elsewhere(result, runner, chosen, options, standards.tolerances)
        screen.say("judging")
        judge_into(result, controls[:2], standards, _refuted(result, runner), looked)
        attach_explanations(result, standards.rules, runner.source.flow)
        attach_effect(result, runs.made)
        attach_rules(result, standards.rules)
        attach_failure(result, first, controls[1], plan)
        result.provenance = provenance_of(first, revision)
        attach_frames(result, plan.cwd)
        if options.fix or options.apply:
            mend(result, runner, standards.rules, options.fix, options.apply)
        if self_check:
            _self_check(result, plan, runs, controls)
        result.runs = [_on_its_device(outcome(run), run) for run in runs.made]
        return result
    finally:
        remove(folder / CACHES)
        if snapshot is not None:
            remove(snapshot.folder)


def _inconclusive(plan: Plan, run: Trace, nothing: AuditError, revision: Revision | None) -> Audit:
    """The audit of a script of which nothing was recorded."""
    return Audit(
        verdict="inconclusive", script=list(plan.script), runs=[outcome(run)], notes=[*filter(None, [wants_a_gpu(run)])],
        reason=Reason.of("error", slug=nothing.slug, message=nothing.message), version=auditor.__version__,
        provenance=provenance_of(run, revision),
    )  # fmt: skip


def _compared(runner: ExperimentRunner, options: AuditOptions) -> Audit:
    """What the controls, and the reruns that explain them, come to."""
    found = _explained(runner, _parted(runner.controls, runner.source.flow, options.strict), options)
    result = conclude(list(runner.plan.script), runner.runs.made, found.comparison, runner.plan)
    result.causes, result.search = found.causes, found.search if options.explains else None
    result.notes += [*found.notes, *runner.runs.notes, *filter(None, [wants_a_gpu(runner.controls[0])])]
    return result


def _self_check(result: Audit, plan: Plan, runs: Reruns, controls: Sequence[Trace]) -> None:
    """Add what two runs show that are recorded less, or not at all."""
    # without us nobody ends the script after N steps
    bare = runs.one(plan.with_level("off"), "bare", "check") if plan.steps is None else None
    steps_only = runs.one(plan.with_level("steps"), "steps-only", "check")
    check_recorder(result, controls[0], controls[1], bare, steps_only)


def _look_elsewhere(
    result: Audit, runner: ExperimentRunner, chosen: Sequence[Device], options: AuditOptions, tolerances: Sequence[Tolerance]
) -> None:  # fmt: skip
    """Add what runs on other devices show, and a run in which each op is recomputed.

    What makes the controls differ is held still in them; if it is not known what does, there is nothing that they could be compared by.
    """
    why, by_itself = None, not chosen
    if by_itself and options.varies and result.verdict != "inconclusive":
        chosen, why = default_devices(runner.controls)
    if why is not None:
        result.notes.append(why)
    held = [cause.factor for cause in result.causes if cause.proved and cause.grade == "logical"]
    plan = runner.plan_with(list(dict.fromkeys(held)))
    if by_itself and chosen and plan.steps is None:
        # a script made for a GPU may take a day on the CPU, and what is off shows soon
        plan = replace(plan, steps=UNASKED_STEPS)
        result.notes.append(Reason.of("compared-in-first-steps", devices=[one.name for one in chosen], steps=UNASKED_STEPS))
    divergences = []
    if len(chosen) > 1:
        unexplained = result.divergence is not None and not held and result.divergence.runs[0] in {run.id for run in runner.controls}
        if unexplained or (result.search is not None and result.search.beyond):
            result.notes.append(Reason.of("devices-not-compared", devices=[one.name for one in chosen]))
        else:
            found = compare_elsewhere(plan, chosen, runner.runs, tolerances)
            result.devices = found.comparisons
            result.notes += found.notes
            divergences.append(found.divergence)
    if options.shadow:
        result.shadow, off = recompute(plan, options.shadow, runner.runs, tolerances)
        divergences.append(off)
    first = next((one for one in divergences if one is not None), None)
    if first is not None and result.divergence is None:
        result.verdict, result.divergence, result.reason = "diverged", first, None


def _on_its_device(made: RunOutcome, run: Trace) -> RunOutcome:
    """A run's outcome with the device that it was made on: as the user called it, or where it made tensors."""
    asked = (run.meta.get("plan") or {}).get("device")
    made.device = asked or "+".join(name for name in devices_of(run) if name != "cpu") or "cpu"
    return made


def _parted(controls: list[Trace], flow: Flow, strict: bool) -> Comparison:
    """The first control with the first other that differs from it, or else with the second."""
    comparisons = [compared(controls[0], other, flow, strict) for other in controls[1:]]
    return next((one for one in comparisons if one.divergence is not None), comparisons[0])


def _runner(plan: Plan, runs: Reruns, controls: list[Trace], options: AuditOptions, snapshot: Snapshot | None) -> ExperimentRunner:
    """What reruns are made with; leftovers can be to blame only if the controls left something behind."""
    factors = plugins.factors()
    left_out: dict[str, Reason] = {}
    changed: list[str] = []
    outputs: list[str] = []
    if snapshot is not None and snapshot.unavailable is None:
        changed = snapshot.changed(Path(plan.cwd))
        outputs = [path for path in changed if path in snapshot.before]
    if not changed:
        why = snapshot.unavailable if snapshot is not None else None
        reason = Reason.of("unavailable", why=why) if why else Reason.of("nothing-left-behind")
        left_out |= {name: reason for name, factor in factors.items() if factor.between_runs and name not in options.pin}
    runs.may_be_together = not must_be_alone(controls, plan, bool(changed))
    ports = sorted({words.split()[1] for words in ports_of(controls)}, key=int)
    if ports:
        runs.notes.append(Reason.of("same-ports", ports=[*ports]))
    folder = WorkingFolder(runs.folder, snapshot, bool(changed), tuple(outputs))
    return ExperimentRunner.of(plan, FactorChoice(factors, options.pin, left_out), runs, controls, folder, options.strict)


def _explained(runner: ExperimentRunner, comparison: Comparison, options: AuditOptions) -> Conclusion:
    """Why the controls differ, or, if they agree, what else makes a difference."""
    if comparison.divergence is not None:
        return explain(runner, comparison) if options.explains else Conclusion(comparison, [], Search(), [])
    whole = all(why_not_whole(control, runner.plan) is None for control in runner.controls)
    if not options.varies or not whole or any(control.meta.get("exit") for control in runner.controls):
        return Conclusion(comparison, [], Search(), [])
    names = options.vary or tuple(name for name in runner.factors.available if not runner.factors[name].entropy)
    if not runner.folder.outputs and not options.vary:
        names = tuple(name for name in names if not runner.factors[name].between_runs)  # the second control had what the first left
    runner.runs.screen.say(f"varied: {', '.join(names)}")
    found = explain_varied(runner, names, bool(options.vary))
    if found.comparison.divergence is None:
        return found._replace(comparison=comparison)
    return found._replace(comparison=replace(found.comparison, side=comparison.side))


def _refuted(result: Audit, runner: ExperimentRunner) -> set[str]:
    """Detectors whose hits do no harm here: a rerun with a factor varied that would show the harm showed the same.

    So it is where unwritten memory held something else: what reads it throws it away again.
    """
    if result.verdict != "no-divergence-seen" or runner.strict:
        return set()
    varied = {name for run in runner.runs.made if not run.meta.get("exit") for name in run.meta.get("varied") or ()}
    seen = {cause.factor for cause in result.causes}
    if any(one.kind == "uninitialized" for one in result.side):
        seen |= {name for name, factor in runner.factors.all.items() if factor.signs.unwritten}
    return {runner.factors[name].refutes for name in varied - seen if name in runner.factors.all}
