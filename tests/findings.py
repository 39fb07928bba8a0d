"""What a shipped rule finds in a run that was built by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from auditor import pipeline, plugins
from auditor.judge import Rule, judge
from auditor.results import Finding
from auditor.trace.reader import Trace
from auditor.trace.tables import Tables
from tests.builder import LaneBuilder, TraceBuilder


def found(tmp_path: Path, rule: str, program: Callable[[LaneBuilder], object], lane: str = "main") -> list[Finding]:
    """The findings of a rule in a run of this lane, compared with an empty run."""
    run = TraceBuilder(tmp_path / "run")
    program(run.lane(lane))
    run.lane("thread 7")
    return judged(rule, run.sealed())


@cache
def shipped(rule: str) -> Rule:
    """A shipped rule, read once: reading all rules takes longer than judging a short run."""
    return pipeline.one_rule(rule).rule


def judged(rule: str, *runs: Trace) -> list[Finding]:
    """The findings of a rule in these runs."""
    with ExitStack() as stack:
        tables = [stack.enter_context(Tables(run)) for run in runs]
        return judge(tables, [shipped(rule)], plugins.detectors())


def places(findings: list[Finding]) -> list[tuple[int | None, int]]:
    """Line and count of each."""
    return [(finding.line, finding.count) for finding in findings]
