"""Knows the order: make the control runs, compare them, look a second time where they differ, conclude."""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import auditor
from auditor import plugins
from auditor.compare import Comparison, compare, compare_devices, divergence_of, environment_differences
from auditor.devices import Device
from auditor.errors import AuditError, LaunchError, UsageError
from auditor.factors import Factor, plan_with
from auditor.judge import (
    Rule,
    RuleFile,
    accepted,
    chosen,
    judge,
    load_rules,
    load_tolerances,
    read_baseline,
    read_neighbour,
    schema,
    without_baseline,
    write_baseline,
)
from auditor.launch import Screen, Snapshot, cache_folder, launch, new_folder, outcome, remove, why_nothing
from auditor.listing import Listing, listing
from auditor.mapping import mapping_of
from auditor.pipeline.causes import Conclusion, explain
from auditor.pipeline.devices import (
    can_be_measured,
    check_reference,
    chosen_devices,
    compare_elsewhere,
    default_devices,
    devices_of,
    measured_on,
    on_first,
    recompute,
    wants_a_gpu,
)
from auditor.pipeline.explained import attach_explanations
from auditor.pipeline.fixes import mend
from auditor.pipeline.frames import attach_frames
from auditor.pipeline.laboratory import Laboratory
from auditor.pipeline.pairs import match_programs
from auditor.pipeline.recorder_check import check_recorder
from auditor.pipeline.reruns import CACHES, Reruns, Silent
from auditor.pipeline.varied import explain_varied
from auditor.pipeline.verdict import agree, compared, conclude, recorded, why_not_whole
from auditor.plan import Inquiry, Plan, Selection
from auditor.results import Audit, Lost, OpLine, Reason, RunOutcome, Search
from auditor.source import Flow
from auditor.tolerance import Tolerance
from auditor.trace.files import FOLDER_MODE
from auditor.trace.reader import Trace
from auditor.trace.tables import Tables

#: Steps in which devices are compared if nobody asked for it.
UNASKED_STEPS = 10


def audit(
    plan: Plan,
    keep: Path | None = None,
    screen: Any = None,
    inquiry: Inquiry | None = None,
    self_check: bool = False,
    rules: Selection | None = None,
) -> Audit:
    """Run the plan twice, compare, find out why the runs differ, and judge the first run by the rules.

    `keep` is the directory for the runs (default: a new one in the user's cache); `inquiry` says how far to go; `self_check` adds two runs
    that show whether being recorded changed what the script does; `rules` chooses among the rules (default: all that are shipped).
    Raises `AuditError` if a rule is wrong, a run could not be made or nothing was recorded in it.
    """
    screen = screen or Silent()
    inquiry = inquiry or Inquiry()
    check_script(plan)
    factors = plugins.factors()
    check_factors(inquiry.pin, inquiry.vary)
    if inquiry.vary and not inquiry.varies:
        raise UsageError(
            "nothing-varied", f"{inquiry.vary[0]} is to be varied, and --effort {inquiry.effort} varies nothing: leave one of them out"
        )
    chosen = chosen_devices(inquiry.devices)
    check_reference(inquiry.shadow)
    plan = on_first(plan, chosen)
    usual = plan_with(plan, factors, inquiry.pin, ())
    selection = rules or Selection()
    book = _rules_of(selection)
    tolerances = all_tolerances(selection.folders)
    known = read_baseline(selection.baseline) if selection.baseline is not None else Counter()
    folder = folder_for(keep, plan)
    runs = Reruns(folder, screen)
    snapshot = _snapshot(plan, folder) if inquiry.explains else None
    try:
        a = runs.one(usual, "control-1", "control")
        nothing = why_nothing(a)
        if nothing is not None:
            reason = Reason.of("error", slug=nothing.slug, message=nothing.message)
            notes = [*filter(None, [wants_a_gpu(a)])]
            return Audit(
                verdict="inconclusive", script=list(plan.script), runs=[outcome(a)], reason=reason, notes=notes, version=auditor.__version__
            )  # fmt: skip
        controls = [a, *(runs.one(usual, f"control-{k}", "control") for k in range(2, inquiry.runs + 1))]
        screen.say("comparing")
        lab = _laboratory(plan, factors, runs, controls, inquiry, snapshot)
        comparison = _parted(controls, lab.flow, inquiry.strict)
        found = _explained(lab, comparison, inquiry)
        looked = _finite_look(plan, a, book, runs) if inquiry.explains else None
        result = conclude(list(plan.script), runs.made, found.comparison, plan)
        result.causes, result.search = found.causes, found.search if inquiry.explains else None
        result.notes += [*found.notes, *runs.notes, *filter(None, [wants_a_gpu(a)])]
        _look_elsewhere(result, lab, chosen, inquiry, tolerances)
        screen.say("judging")
        refuted = _refuted(result, lab)
        judged = [rule for rule in book if rule.detector not in refuted]
        _judge_into(result, controls[:2], judged, selection, known, looked)
        attach_explanations(result, book, lab.flow)
        attach_frames(result, plan.cwd)
        if inquiry.fix or inquiry.apply:
            mend(result, lab, book, inquiry.fix, inquiry.apply)
        if self_check:
            # without us nobody ends the script after N steps
            bare = runs.one(plan.with_level("off"), "bare", "check") if plan.steps is None else None
            steps_only = runs.one(plan.with_level("steps"), "steps-only", "check")
            check_recorder(result, a, controls[1], bare, steps_only)
        result.runs = [_on_its_device(outcome(run), run) for run in runs.made]
        return result
    finally:
        remove(folder / CACHES)
        if snapshot is not None:
            remove(snapshot.folder)


def _look_elsewhere(
    result: Audit, lab: Laboratory, chosen: Sequence[Device], inquiry: Inquiry, tolerances: Sequence[Tolerance]
) -> None:  # fmt: skip
    """Add what runs on other devices show, and a run in which each op is recomputed.

    What makes the controls differ is held still in them; if it is not known what does, there is nothing that they could be compared by.
    """
    why, by_itself = None, not chosen
    if by_itself and inquiry.varies and result.verdict != "inconclusive":
        chosen, why = default_devices(lab.controls)
    if why is not None:
        result.notes.append(why)
    held = [cause.factor for cause in result.causes if cause.proved and cause.grade == "logical"]
    plan = lab.plan_with(list(dict.fromkeys(held)))
    if by_itself and chosen and plan.steps is None:
        # a script made for a GPU may take a day on the CPU, and what is off shows soon
        plan = replace(plan, steps=UNASKED_STEPS)
        result.notes.append(Reason.of("compared-in-first-steps", devices=[one.name for one in chosen], steps=UNASKED_STEPS))
    divergences = []
    if len(chosen) > 1:
        unexplained = result.divergence is not None and not held and result.divergence.runs[0] in {run.id for run in lab.controls}
        if unexplained or (result.search is not None and result.search.beyond):
            result.notes.append(Reason.of("devices-not-compared", devices=[one.name for one in chosen]))
        else:
            found = compare_elsewhere(plan, chosen, lab.runs, tolerances)
            result.devices = found.comparisons
            result.notes += found.notes
            divergences.append(found.divergence)
    if inquiry.shadow:
        result.shadow, off = recompute(plan, inquiry.shadow, lab.runs, tolerances)
        divergences.append(off)
    first = next((one for one in divergences if one is not None), None)
    if first is not None and result.divergence is None:
        result.verdict, result.divergence, result.reason = "diverged", first, None


def _on_its_device(made: RunOutcome, run: Trace) -> RunOutcome:
    """A run's outcome with the device that it was made on: as the user called it, or where it made tensors."""
    asked = (run.meta.get("plan") or {}).get("device")
    made.device = asked or "+".join(name for name in devices_of(run) if name != "cpu") or "cpu"
    return made


def _snapshot(plan: Plan, folder: Path) -> Snapshot:
    """The working directory as it is before the first run, without what is ours in it."""
    taken = Snapshot.take(Path(plan.cwd), folder / "before", without=(folder, cache_folder()))
    if taken.folder.is_dir():
        taken.folder.chmod(FOLDER_MODE)
    return taken


def _parted(controls: list[Trace], flow: Flow, strict: bool) -> Comparison:
    """The first control with the first other that differs from it, or else with the second."""
    comparisons = [compared(controls[0], other, flow, strict) for other in controls[1:]]
    return next((one for one in comparisons if one.divergence is not None), comparisons[0])


def _laboratory(
    plan: Plan, factors: dict[str, Factor], runs: Reruns, controls: list[Trace], inquiry: Inquiry, snapshot: Snapshot | None
) -> Laboratory:
    """What reruns are made with; leftovers can be to blame only if the controls left something behind."""
    left_out: dict[str, Reason] = {}
    changed: list[str] = []
    outputs: list[str] = []
    if snapshot is not None and snapshot.unavailable is None:
        changed = snapshot.changed(Path(plan.cwd))
        outputs = [path for path in changed if path in snapshot.before]
    if not changed:
        why = snapshot.unavailable if snapshot is not None else None
        reason = Reason.of("unavailable", why=why) if why else Reason.of("nothing-left-behind")
        left_out |= {name: reason for name, factor in factors.items() if factor.between_runs and name not in inquiry.pin}
    runs.may_be_together = not _must_be_alone(controls, plan, bool(changed))
    ports = sorted({words.split()[1] for words in _ports(controls)}, key=int)
    if ports:
        runs.notes.append(Reason.of("same-ports", ports=[*ports]))
    return Laboratory(plan, factors, runs, controls, inquiry.pin, snapshot, left_out, bool(changed), tuple(outputs), inquiry.strict)


def _must_be_alone(controls: Sequence[Trace], plan: Plan, copied: bool) -> bool:
    """Whether two runs at the same time could get in each other's way: ranks that meet at a port, a device, files that both write.

    What is `copied` each has to itself, and of temporary files only those that all controls wrote have a fixed name.
    """
    if any(lane.key.rank is not None for run in controls for lane in run.lanes.values()):
        return True
    if any(device.startswith("cuda") for run in controls for device in devices_of(run)):
        return True
    if _ports(controls):
        return True
    temporary = tempfile.gettempdir() + os.sep
    written = [set(_written(run, plan, copied)) for run in controls]
    return bool(set.intersection(*written)) or any(not path.startswith(temporary) for paths in written for path in paths)


def _ports(controls: Sequence[Trace]) -> list[str]:
    """The ports at which all controls met others; one that is free when it is asked for is another one in each run."""
    return sorted(set.intersection(*(set(run.meta.get("ports") or ()) for run in controls)))


def _written(run: Trace, plan: Plan, copied: bool) -> Iterator[str]:
    """Files that a run wrote, but those in the working directory where that is `copied`."""
    for lane in run.lanes.values():
        for event in lane.events_of("file"):
            path = os.path.join(plan.cwd, event["path"])  # noqa: PTH118  # it may be absolute
            inside = os.path.commonpath([path, plan.cwd]) == plan.cwd if path.startswith("/") else False
            if event.get("op") == "write" and not (copied and inside):
                yield path


def _explained(lab: Laboratory, comparison: Comparison, inquiry: Inquiry) -> Conclusion:
    """Why the controls differ, or, if they agree, what else makes a difference."""
    if comparison.divergence is not None:
        return explain(lab, comparison) if inquiry.explains else Conclusion(comparison, [], Search(), [])
    whole = all(why_not_whole(control, lab.plan) is None for control in lab.controls)
    if not inquiry.varies or not whole or any(control.meta.get("exit") for control in lab.controls):
        return Conclusion(comparison, [], Search(), [])
    names = inquiry.vary or tuple(name for name in lab.available if not lab.factors[name].entropy)
    if not lab.outputs and not inquiry.vary:
        names = tuple(name for name in names if not lab.factors[name].between_runs)  # the second control had what the first left
    lab.runs.screen.say(f"varied: {', '.join(names)}")
    found = explain_varied(lab, names, bool(inquiry.vary))
    if found.comparison.divergence is None:
        return found._replace(comparison=comparison)
    return found._replace(comparison=replace(found.comparison, side=comparison.side))


def with_factors(plan: Plan, pinned: Sequence[str], varied: Sequence[str]) -> Plan:
    """The plan with these factors pinned and varied. Raises what `check_factors` does."""
    check_factors(pinned, varied)
    return plan_with(plan, plugins.factors(), pinned, varied)


def with_device(plan: Plan, name: str) -> Plan:
    """The plan of a run on a device, to be compared with one on another. Raises what `chosen_devices` does."""
    device, *more = chosen_devices(name)
    if more:
        raise UsageError("no-such-device", f"--device {name}: one is wanted")
    return measured_on(plan, device, not device.is_cpu, all_tolerances())


def check_factors(pinned: Sequence[str], varied: Sequence[str]) -> None:
    """Raise `UsageError`: `no-such-factor`, `factor-unavailable`, `factor-twice`."""
    factors = plugins.factors()
    for name in (*pinned, *varied):
        factor = factors.get(name)
        if factor is None:
            near = get_close_matches(name, factors, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError("no-such-factor", f"no factor is named {name}{hint}")
        missing = factor.unavailable()
        if missing is not None:
            raise UsageError("factor-unavailable", f"{name} can be neither pinned nor varied: {missing}")
    both = set(pinned) & set(varied)
    if both:
        raise UsageError("factor-twice", f"{min(both)} cannot be both pinned and varied")


def shipped_rules() -> Path:
    """The folder of the rules that come with this package."""
    inside = Path(auditor.__file__).parent / "_rules"
    return inside if inside.is_dir() else Path(auditor.__file__).parent.parent / "rules"


def all_rules(folders: Sequence[Path] = ()) -> dict[str, RuleFile]:
    """The shipped rules and those of further folders, by name. Raises `UsageError` with every fault of every file."""
    return load_rules([shipped_rules(), *folders], plugins.detectors())


def all_tolerances(folders: Sequence[Path] = ()) -> list[Tolerance]:
    """How far each op may be off: the user's rules of that kind, then the shipped ones. Raises `UsageError` with every fault."""
    return load_tolerances(shipped_rules(), folders)


def one_rule(name: str, folders: Sequence[Path] = ()) -> RuleFile:
    """A rule by its name. Raises `UsageError` `no-such-rule`."""
    rules = all_rules(folders)
    chosen(rules, [name], [])  # says what is near if there is none
    if name not in rules:
        raise UsageError("no-such-rule", f"no rule is named {name}: repro-audit rules list")
    return rules[name]


def answer(run: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names and rows that answer a question to a kept run. Raises `UsageError` `bad-query`."""
    with Tables(Trace(run), held=True) as tables:
        return tables.answer(sql)


def _rules_of(selection: Selection) -> list[Rule]:
    return chosen(all_rules(selection.folders), selection.select, selection.ignore)


def _judge_into(
    result: Audit, runs: Sequence[Trace], rules: Sequence[Rule], selection: Selection, known: Counter[str], looked: Trace | None
) -> None:
    """Add what the rules find in the first of the runs and the user has not accepted, and how often it wrote in place.

    A baseline that is written has all of today's findings.
    """
    with ExitStack() as open_tables:
        tables = [open_tables.enter_context(Tables(run, looked=None if k else looked)) for k, run in enumerate(runs)]
        findings = accepted(judge(tables, rules, plugins.detectors()), tables[0], rules)
        (written,) = tables[0].query(
            """SELECT count(*) AS writes, count(DISTINCT (file, line)) AS lines FROM writes
            WHERE phase IN ('setup', 'forward') AND line IS NOT NULL"""
        )
    if selection.write_baseline is not None:
        write_baseline(findings, selection.write_baseline)
    result.findings = without_baseline(findings, known)
    result.coverage.in_place_writes, result.coverage.in_place_lines = written["writes"], written["lines"]


def _refuted(result: Audit, lab: Laboratory) -> set[str]:
    """Detectors whose hits do no harm here: a rerun with a factor varied that would show the harm showed the same.

    So it is where unwritten memory held something else: what reads it throws it away again.
    """
    if result.verdict != "no-divergence-seen" or lab.strict:
        return set()
    varied = {name for run in lab.runs.made if not run.meta.get("exit") for name in run.meta.get("varied") or ()}
    seen = {cause.factor for cause in result.causes}
    if any(one.kind == "uninitialized" for one in result.side):
        seen |= {name for name, factor in lab.factors.items() if factor.signs.unwritten}
    return {lab.factors[name].refutes for name in varied - seen if name in lab.factors}


def _finite_look(plan: Plan, run: Trace, rules: Sequence[Rule], runs: Reruns) -> Trace | None:
    """A rerun that looks for the first nan or infinity, if a rule asks for it and a loss is one; None also if it did not do the same."""
    known = plugins.detectors()
    if run.main is None or not any(rule.detector and known[rule.detector].asks_where_not_finite for rule in rules):
        return None
    steps = run.main.events_of("step")
    bad = next((event["step"] for event in steps if event.get("loss") is not None and not math.isfinite(event["loss"])), None)
    if bad is None:
        return None
    looked = runs.one(plan.with_finite(bad + 1), "look-finite", "look")
    return looked if looked.main is not None and agree(run.main, looked.main) else None


def try_rules(folders: Sequence[Path], screen: Any = None) -> dict[str, list[str]]:
    """Run the script beside each rule of the folders (default: the shipped ones) and say, by rule, what is otherwise than it is marked."""
    rules = all_rules(folders)
    own = {name: file for name, file in rules.items() if any(folder in file.path.parents for folder in folders)} if folders else rules
    return {name: complaints_of(file, screen) for name, file in own.items()}


def complaints_of(file: RuleFile, screen: Any = None) -> list[str]:
    """What a rule finds otherwise than the script beside it is marked, in a real run of it; empty if all is well."""
    screen = screen or Silent()
    neighbour = read_neighbour(file.path.with_suffix(".py"))
    screen.say(f"{file.rule.id}: {neighbour.path}")
    with TemporaryDirectory(prefix="repro-audit-") as work, ExitStack() as open_tables:
        plan = Plan((str(neighbour.path.absolute()),), cwd=work)
        tables = []
        runs = Reruns(Path(work), screen, quiet=True)
        for k in range(neighbour.runs):
            run = runs.one(plan, f"run-{k + 1}", "kept")
            if run.meta.get("exit"):
                return [f"{neighbour.path.name} failed: {run.meta.get('error') or run.meta['exit']}"]
            looked = _finite_look(plan, run, [file.rule], runs) if not k else None
            tables.append(open_tables.enter_context(Tables(run, looked=looked)))
        return neighbour.complaints(file.rule.id, judge(tables, [file.rule], plugins.detectors()))


def record(plan: Plan, run: Path, screen: Any = None) -> tuple[RunOutcome, Reason | None]:
    """Make one run and keep it; also says why it is not whole, if it is not. Raises `AuditError` if nothing was recorded."""
    check_script(plan)
    launch(plan, run, run.name, "kept", screen or Silent())
    trace = Trace(run)
    _insist_on_something(trace, run)
    return outcome(trace), why_not_whole(trace, plan)


def diff(a: Path, b: Path, strict: bool = False) -> Audit:
    """Compare two kept runs, also from other days or machines; what differs in their environment is part of the audit.

    Unless `strict`, a difference that is shown to reach no part of the training is told apart.
    """
    runs = [Trace(a), Trace(b)]
    for run in runs:
        error = why_nothing(run)
        if error is not None:
            raise LaunchError(error.slug, f"{run.path}: {error.message}")
    if runs[0].id == runs[1].id:
        for run in runs:
            run.meta["id"] = str(run.path)
    alike = recorded(runs[0]) == recorded(runs[1])
    result = conclude(runs[0].meta.get("script") or [], runs, compare(*runs, training=not strict) if alike else Comparison(None), None)
    result.environment = environment_differences(*runs)
    if alike and can_be_measured(runs):
        _compare_measured(result, runs)
    if not alike:
        result.coverage.lost.append(Lost(what=Reason.of("single-ops")))
    for found in filter(None, [result.divergence, *result.others, *result.side]):
        if found.kind == "kernel" and found.detail.evidence is None:
            found.kind = "kernel-or-hidden-write"
            found.reasons = [*found.reasons, Reason.of("kernel-or-hidden-write")]
    if result.divergence is not None and result.divergence.kind in ("kernel-or-hidden-write", "uninitialized"):
        result.notes.append(Reason.of("inputs-not-digested"))
    return result


def _compare_measured(result: Audit, runs: Sequence[Trace]) -> None:
    """Judge two kept runs on different devices by what each op added, and not by the first op that differs."""
    comparison = compare_devices(runs[0], runs[1], all_tolerances())
    result.devices = [comparison]
    if result.divergence is not None and result.divergence.kind != "failed":
        result.divergence, result.others = divergence_of(comparison), []
        result.verdict = "diverged" if result.divergence is not None else "no-divergence-seen"


def match(
    a: Plan, b: Plan, keep: Path | None = None, screen: Any = None, mapping: Sequence[str] = (), copy_initial_weights: bool = False
) -> Audit:  # fmt: skip
    """Run two programs and compare the values that they give to names.

    `mapping`: counterparts, as `a=b` or YAML files; `copy_initial_weights`: give the second program the first one's weights.
    Raises `AuditError`.
    """
    check_script(a)
    check_script(b)
    counterparts = mapping_of(mapping)
    return match_programs(a, b, Reruns(folder_for(keep, a), screen or Silent()), counterparts, copy_initial_weights)


def events(run: Path, **conditions: Any) -> Listing:
    """What a kept run holds; the conditions are those of `listing`."""
    return listing(Trace(run), **conditions)


def check_script(plan: Plan) -> None:
    """Raise `UsageError` (`no-such-script`) if the script is not there; near names are suggested."""
    first = plan.script[0] if plan.script else ""
    if not first:
        raise UsageError("no-script", "no script was given: repro-audit train.py ...")
    if first.startswith("-"):
        if first == "-m" and len(plan.script) > 1:
            return
        raise UsageError("no-script", f"{first} is no option of repro-audit and no script: options come before the script")
    path = Path(plan.cwd) / first
    if path.is_file() or (path / "__main__.py").is_file():
        return
    near = get_close_matches(Path(first).name, [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else [], 1)
    hint = f"; did you mean {Path(first).parent / near[0]}?" if near else ""
    raise UsageError("no-such-script", f"there is no script {first} in {plan.cwd}{hint}")


def folder_for(keep: Path | None, plan: Plan) -> Path:
    """Where the runs go: where the user says, or a new directory in the cache. Raises `UsageError` (`run-exists`) if there is something."""
    if keep is None:
        return new_folder(plan)
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError("run-exists", f"{keep} exists and is not an empty directory: choose another one for the runs")
    return Path(os.path.abspath(keep))  # noqa: PTH100  # not through links


def _insist_on_something(trace: Trace, folder: Path) -> None:
    error = why_nothing(trace)
    if error is not None:
        raise LaunchError(error.slug, f"{error.message}; what there is of the run is in {folder}")


__all__ = ["AuditError", "OpLine", "Screen", "Silent", "audit", "conclude", "diff", "events", "match", "record", "schema"]
