"""Which causes, lanes, tensors and findings of an audit are shown, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.report.words.text import listed
from auditor.results import Audit, Cause, Difference, Divergence, Finding, RunOutcome

#: Most messages of one rule in a forecast.
_MESSAGES = 3


def is_trial(run: RunOutcome) -> bool:
    """Whether it is a run with something varied, made because the controls agree."""
    return run.role not in ("control", "kept") and bool(run.varied)


def is_diff(audit: Audit) -> bool:
    """Whether kept runs were compared; what differs in their environment is then said first."""
    return any(run.role == "kept" for run in audit.runs)


def leading_causes(audit: Audit) -> list[Cause]:
    """The causes of what the verdict is about, those that are proved first."""
    aside = {id(cause) for cause in rounding_causes(audit)}
    return sorted((cause for cause in audit.causes if id(cause) not in aside), key=lambda cause: not cause.proved)


def rounding_causes(audit: Audit) -> list[Cause]:
    """Factors that change how results are rounded, and only when they are varied: no fault of the script."""
    varied = {run.id for run in audit.runs if is_trial(run)}
    alone = audit.verdict != "diverged"
    return [cause for cause in audit.causes if cause.grade == "numerical" and (alone or varied.intersection(cause.between))]


def other_lanes(audit: Audit) -> list[tuple[str, Divergence]]:
    """The other lanes' divergences; lanes that differ first at the same line and op, as workers do, together."""
    found: dict[tuple[object, ...], list[Divergence]] = {}
    for other in audit.others:
        found.setdefault((other.kind, other.file, other.line, other.op, other.step, other.phase), []).append(other)
    return [(listed(other.lane for other in alike), alike[0]) for alike in found.values()]


def most_telling(tensors: list[Difference], most: int) -> list[Difference]:
    """At most so many tensors, those that differ before those that do not; in their own order."""
    chosen = sorted(range(len(tensors)), key=lambda k: not tensors[k].differs)[:most]
    return [tensors[k] for k in sorted(chosen)]


@dataclass(frozen=True)
class Forecast:
    """What one rule says of a GPU: the findings of each message, and how many places its further messages have."""

    rule: str
    said: list[tuple[str, list[Finding]]]
    more: int


def seen_findings(audit: Audit) -> list[Finding]:
    """The findings on what was in the run."""
    return [finding for finding in audit.findings if not finding.forecast]


def forecast(audit: Audit) -> list[Forecast]:
    """What would be on a GPU, by rule; lines of which the same is to be said together, those of most ops first."""
    rules: dict[str, dict[str, list[Finding]]] = {}
    for finding in audit.findings:
        if finding.forecast:
            rules.setdefault(finding.rule, {}).setdefault(finding.message, []).append(finding)
    told = []
    for rule, messages in rules.items():
        said = sorted(messages.items(), key=lambda item: -sum(finding.count for finding in item[1]))
        told.append(Forecast(rule, said[:_MESSAGES], sum(len(findings) for _, findings in said[_MESSAGES:])))
    return sorted(told, key=lambda one: one.rule)


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, list[Finding]]]:
    """Findings as they are shown: notes of one rule together, the first with the others; everything else by itself."""
    shown: list[tuple[Finding, list[Finding]]] = []
    notes: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.level != "note":
            shown.append((finding, []))
        elif finding.rule in notes:
            notes[finding.rule].append(finding)
        else:
            shown.append((finding, notes.setdefault(finding.rule, [])))
    return shown
