"""The end of a report: one line each on the runs, on what was not compared and on what was not varied, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from auditor.report.story.selection import is_diff, leading_causes, seen_findings
from auditor.report.words import programs
from auditor.report.words.coverage_facts import lost
from auditor.report.words.reasons import text_of
from auditor.report.words.runs import ending, runs_title
from auditor.report.words.text import LONG, counted, listed, plain
from auditor.results import Audit, Search

#: How many runs show a fault that some runs do not, for want of a better number.
_RUNS = 10


def tail(audit: Audit, most: int) -> Iterator[str]:
    """Runs and coverage; runs that ended badly; what the recorder missed; what was not varied; what differs between environments."""
    yield _runs(audit)
    for run in audit.runs:
        if run.exit not in (0, None) and not run.stopped and audit.verdict != "inconclusive":
            error = f": {plain(run.error)}" if run.error else ""
            yield f"One run failed ({ending(run)}{error})."
            break
    stopped = [ending(run) for run in audit.runs if run.stopped in ("timeout", "stalled", "interrupted")]
    if stopped:
        yield f"{counted(len(stopped), 'run')} {'was' if len(stopped) == 1 else 'were'} {listed(dict.fromkeys(stopped))}."
    missed = lost(audit)
    if missed:
        rest = [f"{len(missed) - most} more (-v)"] if len(missed) > most else []
        yield f"Not covered: {'; '.join([*missed[:most], *rest])}."
    if audit.search is not None and audit.search.left_out:
        yield f"Not {'varied' if audit.search.varied else 'pinned'}: {_left_out(audit.search)}."
    if audit.environment and not is_diff(audit):
        names = [plain(one.name) for one in audit.environment]
        rest = [f"{len(names) - most} more (-v)"] if len(names) > most else []
        yield f"Environment differs: {listed([*names[:most], *rest])}."


def next_command(audit: Audit) -> tuple[str, str] | None:
    """What to type next, and what it does."""
    script = plain(shlex.join(audit.script), LONG)
    if not script or is_diff(audit):
        names = [plain(shlex.quote(run.path or run.id), LONG) for run in audit.runs[:2]]
        return (f"repro-audit diff -v {' '.join(names)}", "shows tensors and ops") if len(names) == 2 else None
    if programs.is_match(audit):
        return (f"repro-audit match -v {script}", "lists all names") if len(audit.script) == 2 else None
    if audit.verdict == "inconclusive":
        failed = bool(audit.runs) and all(run.exit not in (0, None) for run in audit.runs)
        return (f"repro-audit {script}", "again when the script runs to its end") if failed else None
    return _after_divergence(audit, script) if audit.verdict == "diverged" else _after_agreement(audit, script)


def _after_divergence(audit: Audit, script: str) -> tuple[str, str]:
    causes = leading_causes(audit)
    patches = [cause.patch for cause in causes if cause.patch is not None]
    if patches:
        if all(patch.applied for patch in patches):
            return f"repro-audit {script}", "audits the patched script"
        return f"repro-audit --fix --apply {script}", "applies the patch and keeps a backup unless git tracks the file"
    if any(cause.proved and cause.grade == "logical" for cause in causes):
        return f"repro-audit --fix {script}", "tries a patch and verifies it by two runs"
    divergence = audit.divergence
    if divergence is not None and divergence.intermittent is not None and len(audit.runs) < _RUNS:
        return f"repro-audit --runs {_RUNS} {script}", "measures how often the runs differ"
    if audit.search is None and divergence is not None and divergence.kind != "arithmetic":
        return f"repro-audit {script}", "searches for the cause by reruns"
    return f"repro-audit -v {script}", "shows tensors, ops and runs"


def _after_agreement(audit: Audit, script: str) -> tuple[str, str] | None:
    worst = next((one for level in ("error", "warning") for one in seen_findings(audit) if one.level == level), None)
    if worst is not None:
        return f"repro-audit explain {plain(shlex.quote(worst.rule))}", "says why it matters and what to do instead"
    if audit.search is None:
        return f"repro-audit {script}", "also varies hash seed, threads and other factors"
    if not audit.devices:
        return f"repro-audit --devices cpu,cpu:avx2 {script}", "compares another CPU's instructions"
    return f"repro-audit -v {script}", "shows all runs and what was varied"


def _runs(audit: Audit) -> str:
    """How many runs were made, how long they took, and how much was compared."""
    seconds = [run.seconds for run in audit.runs if run.seconds is not None]
    made = f"{runs_title(audit)}{f', {sum(seconds):.1f} s' if seconds else ''}."
    if programs.is_match(audit):
        return made
    seen = audit.coverage
    compared = [run for run in audit.runs if run.role in ("control", "kept")] or audit.runs
    steps = max((run.steps for run in compared), default=0)
    over = f" and {counted(steps, 'step')}" if steps else ""
    lanes = f" in {seen.lanes} lanes (threads, workers or ranks)" if seen.lanes > 1 else ""
    return f"{made} {counted(seen.ops, 'op')}{over} compared{lanes}."


def _left_out(search: Search) -> str:
    """How many factors took no part and why; those of one reason together."""
    alike: dict[str, list[str]] = {}
    for factor, reason in search.left_out.items():
        alike.setdefault(plain(text_of(reason)), []).append(factor)
    said = []
    for why, factors in alike.items():
        who = listed(factors) if len(factors) < 3 else counted(len(factors), "factor")
        said.append(f"{who} ({why})" if why else who)
    return "; ".join(said)
