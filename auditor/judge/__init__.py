"""A run and rules -> findings: one finding a fault, however often it happened.

The rules are those of `rules.py`; what they ask is answered by `conditions.py`, or by a detector. What the user has accepted is left out
afterwards, by a comment beside the line or by a baseline (`acceptance.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from auditor.errors import TraceError
from auditor.judge.acceptance import Allowance, allowances, read_baseline, without_allowed, without_baseline, write_baseline
from auditor.judge.conditions import FIELDS, where
from auditor.judge.neighbour import read_neighbour
from auditor.judge.rules import PLACEHOLDER, Rule, RuleFile, chosen, load_rules, schema
from auditor.judge.tolerances import load_tolerances
from auditor.results import Finding, Level

if TYPE_CHECKING:
    from auditor.detectors import Detector, Hit
    from auditor.trace.tables import Tables


#: The worst first.
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


def judge(runs: Sequence[Tables], rules: Iterable[Rule], detectors: Mapping[str, Detector]) -> list[Finding]:
    """All findings of the first run, the worst first; the other runs are only compared with it.

    A rule that does not hold for the run's version of torch finds nothing.
    """
    found: list[Finding] = []
    version = _torch_of(runs[0])
    for rule in rules:
        if not rule.holds_for(version):
            continue
        try:
            found += _findings(rule, runs, detectors)
        except TraceError:
            raise
        except Exception as error:  # noqa: BLE001  # one rule that fails must not cost the user the audit
            said = str(error).partition("\n")[0]
            found.append(Finding(rule=rule.id, level="note", message=f"the rule could not be applied: {type(error).__name__}: {said}"))
    return sorted(found, key=lambda f: (LEVELS.index(f.level), f.file or "", f.line or 0, f.rule))


def _torch_of(run: Tables) -> str | None:
    """The version of torch that a run had; None if no process of it said."""
    return next((str(lane.facts["torch"]) for lane in run.run.lanes.values() if lane.facts.get("torch")), None)


def _findings(rule: Rule, runs: Sequence[Tables], detectors: Mapping[str, Detector]) -> list[Finding]:
    if rule.match is not None:
        return [_finding(rule, row["file"], row["line"], row, row["count"], runs[0]) for row in _matching(rule, runs[0])]
    detector = detectors[rule.detector or ""]
    hits: list[Hit] = list(detector.find(runs, TypeAdapter(detector.params).validate_python(rule.params)))
    return [_finding(rule, hit.file, hit.line, hit.values, hit.count, runs[0]) for hit in hits]


def _matching(rule: Rule, run: Tables) -> list[dict[str, Any]]:
    """The happenings that fit, one for each place in the user's code, by its first one."""
    assert rule.match is not None
    condition, given = where(rule.match)
    firsts = ", ".join(f'first("{name}" ORDER BY "row", nth NULLS LAST) AS "{name}"' for name in FIELDS if name not in ("file", "line"))
    return run.query(
        f'SELECT file, line, count(*) AS count, {firsts} FROM "all" WHERE {condition} GROUP BY file, line ORDER BY min("row"), file, line',
        *given,
    )


def _finding(rule: Rule, file: str | None, line: int | None, values: Mapping[str, object], count: int, run: Tables) -> Finding:
    said = {**values, "count": count}
    message = PLACEHOLDER.sub(lambda name: str(said.get(name[1], name[0])), rule.message)
    evidence = {name: value for name, value in values.items() if value is not None and name not in ("file", "line", "code", "count")}
    code = values.get("code") or (run.code_at(file, line) if file and line else None)
    return Finding(
        rule=rule.id, level=rule.level, file=file, line=line, code=code if isinstance(code, str) else None, count=count, message=message,
        instead=rule.instead, forecast=rule.forecast, evidence=evidence,
    )  # fmt: skip


def accepted(findings: Sequence[Finding], run: Tables, judged: Iterable[Rule]) -> list[Finding]:
    """The findings without those that a comment in the source allows, with notes on comments that are wrong or of no use."""
    cwd = Path(run.run.meta.get("cwd") or "")
    files = [row["file"] for row in run.query('SELECT DISTINCT file FROM "all" WHERE file IS NOT NULL ORDER BY file')]
    made: list[Allowance] = []
    for file in files:
        try:
            made += allowances(file, (cwd / file).read_text("utf-8"))
        except (OSError, UnicodeDecodeError):  # a file that is gone, or <stdin>
            continue
    return without_allowed(findings, made, {rule.id for rule in judged})


__all__ = [
    "LEVELS", "Rule", "RuleFile", "accepted", "chosen", "judge", "load_rules", "load_tolerances", "read_baseline",
    "read_neighbour", "schema", "without_baseline", "write_baseline",
]  # fmt: skip
