"""Knows the order: make the control runs, compare them, look a second time where they differ, conclude."""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import auditor
from auditor import plugins
from auditor.compare import Comparison, compare, environment_differences
from auditor.errors import AuditError, LaunchError, UsageError
from auditor.factors import plan_with
from auditor.judge import (
    Rule,
    RuleFile,
    accepted,
    chosen,
    judge,
    load_rules,
    read_baseline,
    read_neighbour,
    schema,
    without_baseline,
    write_baseline,
)
from auditor.launch import Progress, Screen, Stdin, launch, outcome, why_nothing
from auditor.listing import Listing, listing
from auditor.pipeline.verdict import agree, check_recorder, conclude, rate, recorded, why_not_whole
from auditor.plan import Plan, Selection, Watch
from auditor.progress import write_all
from auditor.results import Audit, Lost, OpLine, RunOutcome
from auditor.trace.reader import Trace
from auditor.trace.tables import Tables

#: Audits that are kept in the cache directory; older ones are removed.
KEPT_AUDITS = 20
#: Second looks at most: a fault that moves is looked at once more where it was seen then.
_LOOKS = 2
_WIDEST_WATCH = 20_000
#: The detector that says more if a rerun looked at every result.
_LOOKS_FOR_NONFINITE = "nonfinite-loss"


class Silent:
    """A screen that passes the script's output on and shows nothing of ours."""

    def output(self, stream: int, data: bytes) -> None:
        """Write to our own stdout or stderr."""
        write_all(stream, data)

    def progress(self, progress: Progress) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""


def audit(
    plan: Plan, keep: Path | None = None, screen: Any = None, look: bool = True, self_check: bool = False, rules: Selection | None = None
) -> Audit:
    """Run the plan twice, compare, look closely at the first divergence, and judge the first run by the rules.

    `keep` is the directory for the runs (default: a new one in the user's cache); `look` allows the second look; `self_check` adds two
    runs that show whether being recorded changed what the script does; `rules` chooses among the rules (default: all that are shipped).
    Raises `AuditError` if a rule is wrong, a run could not be made or nothing was recorded in it.
    """
    screen = screen or Silent()
    check_script(plan)
    selection = rules or Selection()
    book = _rules_of(selection)
    known = read_baseline(selection.baseline) if selection.baseline is not None else Counter()
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError("run-exists", f"{keep} exists and is not an empty directory: choose another one for the runs")
    folder = keep or new_folder(plan)
    stdin = Stdin()
    runs: list[Trace] = []

    def make(made: Plan, name: str, role: str) -> Trace:
        screen.say(f"{name}: {' '.join(plan.script)}")
        launch(made, folder / name, name, role, screen, stdin, quiet=bool(runs))
        trace = Trace(folder / name)
        if not runs and stdin.terminal and trace.main is not None:
            stdin.typed = [event["text"] for event in trace.main.events_of("file") if event.get("op") == "input"]
        runs.append(trace)
        return trace

    a = make(plan, "control-1", "control")
    nothing = why_nothing(a)
    if nothing is not None:
        reason = f"{nothing.message} [{nothing.slug}]"
        return Audit(verdict="inconclusive", script=list(plan.script), runs=[outcome(a)], reason=reason, version=auditor.__version__)
    b = make(plan, "control-2", "control")
    screen.say("comparing")
    comparison = compare(a, b)
    if comparison.divergence is not None and look and comparison.watch is not None:
        comparison = _second_look(plan, comparison, runs, make)
    looked = _finite_look(plan, a, book, make) if look else None
    result = conclude(list(plan.script), runs, comparison, plan)
    screen.say("judging")
    _judge_into(result, [a, b], book, selection, known, looked)
    if self_check:
        # without us nobody ends the script after N steps
        bare = make(plan.with_level("off"), "bare", "check") if plan.steps is None else None
        steps_only = make(plan.with_level("steps"), "steps-only", "check")
        result.runs = [outcome(run) for run in runs]
        check_recorder(result, a, b, bare, steps_only)
    return result


def with_factors(plan: Plan, pinned: Sequence[str], varied: Sequence[str]) -> Plan:
    """The plan with these factors pinned and varied.

    Raises `UsageError`: `no-such-factor`, `factor-unavailable`, `factor-twice`.
    """
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
    return plan_with(plan, factors, pinned, varied)


def shipped_rules() -> Path:
    """The folder of the rules that come with this package."""
    inside = Path(auditor.__file__).parent / "_rules"
    return inside if inside.is_dir() else Path(auditor.__file__).parent.parent / "rules"


def all_rules(folders: Sequence[Path] = ()) -> dict[str, RuleFile]:
    """The shipped rules and those of further folders, by name. Raises `UsageError` with every fault of every file."""
    return load_rules([shipped_rules(), *folders], plugins.detectors())


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


def _finite_look(plan: Plan, run: Trace, rules: Sequence[Rule], make: Any) -> Trace | None:
    """A rerun that looks for the first nan or infinity, if a rule asks for it and a loss is one; None also if it did not do the same."""
    if run.main is None or not any(rule.detector == _LOOKS_FOR_NONFINITE for rule in rules):
        return None
    steps = run.main.events_of("step")
    bad = next((k for k, event in enumerate(steps) if event.get("loss") is not None and not math.isfinite(event["loss"])), None)
    if bad is None:
        return None
    looked: Trace = make(plan.with_finite(bad + 1), "look-finite", "look")
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

        def make(made: Plan, name: str, role: str) -> Trace:
            launch(made, Path(work, name), name, role, screen, quiet=True)
            return Trace(Path(work, name))

        for k in range(neighbour.runs):
            run = make(plan, f"run-{k + 1}", "kept")
            if run.meta.get("exit"):
                return [f"{neighbour.path.name} failed: {run.meta.get('error') or run.meta['exit']}"]
            looked = _finite_look(plan, run, [file.rule], make) if not k else None
            tables.append(open_tables.enter_context(Tables(run, looked=looked)))
        return neighbour.complaints(file.rule.id, judge(tables, [file.rule], plugins.detectors()))


def record(plan: Plan, run: Path, screen: Any = None) -> tuple[RunOutcome, str | None]:
    """Make one run and keep it; also says why it is not whole, if it is not. Raises `AuditError` if nothing was recorded."""
    check_script(plan)
    launch(plan, run, run.name, "kept", screen or Silent())
    trace = Trace(run)
    _insist_on_something(trace, run)
    return outcome(trace), why_not_whole(trace, plan)


def diff(a: Path, b: Path) -> Audit:
    """Compare two kept runs, also from other days or machines; what differs in their environment is part of the audit."""
    runs = [Trace(a), Trace(b)]
    for run in runs:
        error = why_nothing(run)
        if error is not None:
            raise LaunchError(error.slug, f"{run.path}: {error.message}")
    if runs[0].id == runs[1].id:
        for run in runs:
            run.meta["id"] = str(run.path)
    alike = recorded(runs[0]) == recorded(runs[1])
    result = conclude(runs[0].meta.get("script") or [], runs, compare(*runs) if alike else Comparison(None), None)
    result.environment = environment_differences(*runs)
    if not alike:
        result.coverage.lost.append(Lost(what="single ops: the runs were not recorded at the same level, so their steps were compared"))
    if (
        result.divergence is not None
        and result.divergence.detail.evidence is None
        and result.divergence.kind in ("kernel", "uninitialized")
    ):
        result.notes.append(
            "inputs were not digested in these runs, so a write by something other than torch is not told from another result of the op: "
            "audit the script to have it looked at a second time"
        )
    return result


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


def new_folder(plan: Plan) -> Path:
    """A new directory in the user's cache; the oldest of too many are removed."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "repro-audit"
    script = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(plan.script[-1 if plan.script[0] == "-m" else 0]).stem) or "script"
    folder = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{script}"
    n = 1
    try:
        root.mkdir(parents=True, exist_ok=True)
        audits = [path for path in root.iterdir() if re.match(r"\d{8}-\d{6}-", path.name)]
        audits.sort(key=lambda path: path.stat().st_mtime_ns)
        for path in audits[: max(len(audits) - KEPT_AUDITS + 1, 0)]:
            shutil.rmtree(path, ignore_errors=True)
        while True:
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                n += 1
                folder = folder.with_name(f"{folder.name.rstrip('0123456789').rstrip('~')}~{n}")
    except OSError:
        import tempfile

        return Path(tempfile.mkdtemp(prefix="repro-audit-"))


def _insist_on_something(trace: Trace, folder: Path) -> None:
    error = why_nothing(trace)
    if error is not None:
        raise LaunchError(error.slug, f"{error.message}; what there is of the run is in {folder}")


def _second_look(plan: Plan, first: Comparison, runs: list[Trace], make: Any) -> Comparison:
    """Run twice more with all values around the divergence kept; the rate of a fault that does not come back is counted."""
    watch = first.watch
    divergence = first.divergence
    best = first
    # A file that one run leaves for the next is written at the end: a run that is cut short would not leave it.
    to_the_end = divergence is not None and bool(divergence.detail.files)
    for attempt in range(_LOOKS):
        if watch is None or divergence is None:
            break
        names = [f"look-{2 * attempt + 1}", f"look-{2 * attempt + 2}"]
        pair = [make(plan.with_watch(watch, to_the_end=to_the_end), name, "look") for name in names]
        seen = compare(*pair)
        found = seen.divergence
        if found is None:
            continue
        if found.detail.evidence is not None:
            best = replace(first, divergence=found, others=first.others, notes=[*first.notes])
            if found.index != divergence.index or found.lane != divergence.lane:
                best.notes.append(
                    f"the fault moves: the controls differ first at op {divergence.index}, the second look at op {found.index}"
                )
            else:
                found.detail.before = divergence.detail.before
                if not found.detail.carriers:
                    found.detail.carriers = divergence.detail.carriers
                found.detail.differing_ops, found.detail.compared_ops = divergence.detail.differing_ops, divergence.detail.compared_ops
            found.runs = divergence.runs
            break
        if seen.watch is None or seen.watch.lane != watch.lane:
            break
        watch = Watch(watch.lane, min(watch.first, seen.watch.first), max(watch.last, seen.watch.last), watch.identity)
        if watch.last - watch.first > _WIDEST_WATCH:
            break
    if best.divergence is not None:
        best.divergence.intermittent = rate(runs, best.divergence.lane)
    return best


__all__ = ["AuditError", "OpLine", "Screen", "audit", "conclude", "diff", "events", "record", "schema"]
