"""Runs that are made to be kept, and what is asked of them later: what they hold, and how two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auditor.compare import Comparison, compare, compare_devices, divergence_of, environment_differences
from auditor.errors import LaunchError
from auditor.launch import launch, nothing_recorded, outcome
from auditor.listing import Listing, listing
from auditor.pipeline.devices import can_be_measured
from auditor.pipeline.provenance import attach_effect, provenance_of
from auditor.pipeline.reruns import Silent
from auditor.pipeline.rules import all_tolerances
from auditor.pipeline.validation import check_script
from auditor.pipeline.verdict import conclude, recorded, why_not_whole
from auditor.plan import Plan
from auditor.results import Audit, Lost, Reason, RunOutcome
from auditor.trace.reader import Trace, opened
from auditor.trace.tables import Tables


def record(plan: Plan, run: Path, screen: Any = None) -> tuple[RunOutcome, Reason | None]:
    """Make one run and keep it; also says why it is not whole, if it is not. Raises `AuditError` if nothing was recorded."""
    check_script(plan)
    launch(plan, run, run.name, "kept", screen or Silent())
    trace = opened(run)
    _insist_on_something(trace, run)
    return outcome(trace), why_not_whole(trace, plan)


def diff(a: Path, b: Path, strict: bool = False) -> Audit:
    """Compare two kept runs, also from other days or machines; what differs in their environment is part of the audit.

    Unless `strict`, a difference that is shown to reach no part of the training is told apart.
    """
    runs = [opened(a), opened(b)]
    for run in runs:
        error = nothing_recorded(run)
        if error is not None:
            raise LaunchError(error.slug, f"{run.path}: {error.message}")
    if runs[0].id == runs[1].id:
        for run in runs:
            run.meta["id"] = str(run.path)
    alike = recorded(runs[0]) == recorded(runs[1])
    result = conclude(runs[0].meta.get("script") or [], runs, compare(*runs, training=not strict) if alike else Comparison(None), None)
    result.environment, result.provenance = environment_differences(*runs), provenance_of(runs[0], None)
    if alike and can_be_measured(runs):
        _compare_measured(result, runs)
    if not alike:
        result.coverage.lost.append(Lost(what=Reason.of("single-ops")))
    for found in filter(None, [result.divergence, *result.others, *result.side]):
        if found.kind == "kernel" and found.detail.evidence is None:
            found.kind = "kernel-or-hidden-write"
            found.reasons = [*found.reasons, Reason.of("kernel-or-hidden-write")]
    attach_effect(result, runs)
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


def events(run: Path, **conditions: Any) -> Listing:
    """What a kept run holds; the conditions are those of `listing`."""
    return listing(opened(run), **conditions)


def answer(run: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names and rows that answer a question to a kept run. Raises `UsageError` `bad-query`."""
    with Tables(opened(run), held=True) as tables:
        return tables.answer(sql)


def _insist_on_something(trace: Trace, folder: Path) -> None:
    error = nothing_recorded(trace)
    if error is not None:
        raise LaunchError(error.slug, f"{error.message}; what there is of the run is in {folder}")
