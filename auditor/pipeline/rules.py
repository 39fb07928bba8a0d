"""The rules and tolerances that there are, what rules find in the runs of an audit, and in their own scripts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import auditor
from auditor import plugins
from auditor.errors import UsageError
from auditor.judge import (
    Rule,
    RuleFile,
    accepted,
    chosen,
    judge,
    load_rules,
    load_tolerances,
    read_baseline,
    read_rule_script,
    without_baseline,
    write_baseline,
)
from auditor.pipeline.reruns import Reruns, Silent
from auditor.pipeline.verdict import agree
from auditor.plan import Plan, Selection
from auditor.results import Audit
from auditor.tolerance import Tolerance
from auditor.trace.reader import Trace
from auditor.trace.tables import Tables


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


@dataclass(frozen=True)
class Standards:
    """What runs are judged by: the chosen rules, how far ops may be off, and the findings that the user has accepted."""

    selection: Selection
    rules: list[Rule]
    tolerances: list[Tolerance]
    known: Counter[str]

    @classmethod
    def of(cls, selection: Selection) -> Standards:
        """Read what the user has chosen. Raises `UsageError` with every fault."""
        rules = chosen(all_rules(selection.folders), selection.select, selection.ignore)
        known = read_baseline(selection.baseline) if selection.baseline is not None else Counter[str]()
        return cls(selection, rules, all_tolerances(selection.folders), known)


def judge_into(
    result: Audit, runs: Sequence[Trace], standards: Standards, refuted: Collection[str], looked: Trace | None
) -> None:  # fmt: skip
    """Add what the rules find in the first of the runs and the user has not accepted, and how often it wrote in place.

    Of `refuted` detectors nothing is added. A baseline that is written has all of today's findings.
    """
    rules, selection = [rule for rule in standards.rules if rule.detector not in refuted], standards.selection
    with ExitStack() as open_tables:
        tables = [open_tables.enter_context(Tables(run, looked=None if k else looked)) for k, run in enumerate(runs)]
        findings = accepted(judge(tables, rules, plugins.detectors()), tables[0], rules)
        (written,) = tables[0].query(
            """SELECT count(*) AS writes, count(DISTINCT (file, line)) AS lines FROM writes
            WHERE phase IN ('setup', 'forward') AND line IS NOT NULL"""
        )
    if selection.write_baseline is not None:
        write_baseline(findings, selection.write_baseline)
    result.findings = without_baseline(findings, standards.known)
    result.coverage.in_place_writes, result.coverage.in_place_lines = written["writes"], written["lines"]


def finite_look(plan: Plan, run: Trace, rules: Sequence[Rule], runs: Reruns) -> Trace | None:
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
    neighbour = read_rule_script(file.path.with_suffix(".py"))
    screen.say(f"{file.rule.id}: {neighbour.path}")
    with TemporaryDirectory(prefix="repro-audit-") as work, ExitStack() as open_tables:
        plan = Plan((str(neighbour.path.absolute()),), cwd=work)
        tables = []
        runs = Reruns(Path(work), screen, quiet=True)
        for k in range(neighbour.runs):
            run = runs.one(plan, f"run-{k + 1}", "kept")
            if run.meta.get("exit"):
                return [f"{neighbour.path.name} failed: {run.meta.get('error') or run.meta['exit']}"]
            looked = finite_look(plan, run, [file.rule], runs) if not k else None
            tables.append(open_tables.enter_context(Tables(run, looked=looked)))
        return neighbour.complaints(file.rule.id, judge(tables, [file.rule], plugins.detectors()))
