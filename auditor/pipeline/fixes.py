"""Turns causes into changes of the script, and hands over only those that were run and seen to work.

A change is tried in a copy: the user's files are touched only on request, and then only at the very end. What goes wrong there is a note of
the audit: it must not cost the user what the runs have shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from auditor.errors import LaunchError, UsageError
from auditor.judge import Rule, judge
from auditor.mend import diff_of, mended, zeroed
from auditor.pipeline.experiment_runner import ExperimentRunner
from auditor.pipeline.patch_files import ChangedFiles, apply_patches, line_after, written
from auditor.pipeline.verdict import compared, why_not_whole
from auditor.plugins import detectors
from auditor.results import Audit, Cause, Divergence, Explanation, Finding, Patch, Reason
from auditor.trace.reader import Trace
from auditor.trace.tables import Tables

#: Files at most that a patched script removes.
_REMOVED = 3


def mend(audit: Audit, runner: ExperimentRunner, rules: Sequence[Rule], write: bool, apply: bool) -> None:
    """Add a patch to each cause and stale gradient that a few lines cure; write them all to a file, or into the script itself."""
    work = ChangedFiles(runner)
    for cause in audit.causes if audit.explained_by is None else ():  # what would be patched is only the symptom
        if cause.grade == "logical" and cause.symptom_of is None and cause.file is not None and cause.line is not None:
            rest = [other.factor for other in audit.causes if other.patch is None and other.factor != cause.factor]
            cause.patch = _cured(work, cause, audit, rest)
    known = detectors()
    rule = next((rule for rule in rules if rule.detector is not None and known[rule.detector].zeroes), None)
    stale = [finding for finding in audit.findings if rule is not None and finding.rule == rule.id]
    for finding in stale:
        assert rule is not None
        finding.patch = _zeroed(work, finding, rule, audit)
    audit.notes += _left_to_words(audit.causes, stale, audit.explained_by)
    left = work.changed()
    if apply:
        patches = [*(cause.patch for cause in audit.causes), *(finding.patch for finding in stale)]
        left = apply_patches(work, [patch for patch in patches if patch is not None], audit)
    if left and (write or apply):
        try:
            audit.notes.append(written(work, left))
        except UsageError as error:
            audit.notes.append(Reason.of("error", slug=error.slug, message=error.message))


def _left_to_words(causes: Sequence[Cause], stale: Sequence[Finding], explained: Explanation | None) -> list[Reason]:
    """What there is no patch for; how numbers are computed is no fault of a line."""
    logical = [cause for cause in causes if cause.grade == "logical"]
    if explained is not None:
        return [Reason.of("explained-by-rule", rule=explained.rule, file=explained.file, line=explained.line)]
    if not logical and not stale:
        return [Reason.of("only-numerics") if causes else Reason.of("no-cause")]
    without: list[tuple[str, Cause | Finding]] = [(cause.factor, cause) for cause in logical if cause.patch is None]
    without += [(finding.rule, finding) for finding in stale if finding.patch is None]
    if not without:
        return []
    return [
        Reason.of(
            "no-change-works",
            names=[name for name, _ in without],
            files=[at.file for _, at in without],
            lines=[at.line for _, at in without],
        )
    ]


def _cured(work: ChangedFiles, cause: Cause, audit: Audit, rest: list[str]) -> Patch | None:
    """The first of the candidate changes with which the script does the same each time, with the other causes held still."""
    assert cause.file is not None
    assert cause.line is not None
    if not cause.proved and work.runner.intermittent is not None:
        return None  # that runs agree would show nothing
    text = work.text(cause.file)
    if text is None:
        return None
    here = cause.model_copy(update={"line": work.line(cause.file, cause.line)})
    divergence = work.runner.differences.of_cause(cause) or audit.divergence
    lane = divergence.lane if divergence is not None else "main"
    changes = work.runner.factors[cause.factor].fixes
    first = _leftover(work.runner, divergence, cause)
    waiting = [(new, [first] if first is not None else []) for new in mended(here, text, changes, lane=lane, leftover=first)]
    while waiting:
        new, removed = waiting.pop(0)
        try:
            runs = _tried(work, {cause.file: new}, rest, cause, audit)
        except LaunchError as error:
            audit.notes.append(Reason.of("no-change-tried", slug=error.slug, message=error.message))
            return None
        if not _ended_well(runs, work.runner):
            continue
        left = _difference(runs, work.runner.strict)
        if left is None:
            there = [path for path in removed if work.runner.folder.had_before(path)]
            if there:
                audit.notes.append(Reason.of("patch-removes", paths=[*there]))
            work.texts[cause.file] = work.texts[cause.file][0], new
            return Patch(file=cause.file, diff=diff_of(work.named(cause.file), text, new), runs=[run.id for run in runs])
        other = _leftover(work.runner, left, cause, removed)
        if other is not None and len(removed) < _REMOVED:
            # behind the first file that was found there is another one
            later = cause.model_copy(update={"line": line_after(text, new, here.line or 1)})
            waiting += [(more, [*removed, other]) for more in mended(later, new, changes, lane=lane, leftover=other)]
    return None


def _leftover(runner: ExperimentRunner, divergence: Divergence | None, cause: Cause, removed: Sequence[str] = ()) -> str | None:
    """A file that was read and should not have been there: that of the line which the cause names, if it is known."""
    files = divergence.detail.files if divergence is not None and runner.factors[cause.factor].between_runs else []
    read = [file for file in files if file.op == "read" and file.path not in removed]
    read.sort(key=lambda file: (file.file, file.line) != (cause.file, cause.line))
    return read[0].path if read else None


def _difference(runs: Sequence[Trace], strict: bool) -> Divergence | None:
    """The first difference between the first run and another."""
    for run in runs[1:]:
        found = compared(runs[0], run, strict=strict).divergence
        if found is not None:
            return found
    return None


def _zeroed(work: ChangedFiles, finding: Finding, rule: Rule, audit: Audit) -> Patch | None:
    """The gradients of a finding zeroed; shown by a run in which the finding is gone."""
    text = work.text(finding.file) if finding.file is not None else None
    if text is None or finding.file is None or finding.line is None:
        return None
    new: str | None = text
    for name in str(finding.evidence.get("subject", "")).split():
        new = zeroed(new, work.line(finding.file, finding.line), name) if new is not None else None
    if new is None or new == text:
        return None
    try:
        runs = _tried(work, {finding.file: new}, [], None, audit)
    except LaunchError as error:
        audit.notes.append(Reason.of("no-change-tried", slug=error.slug, message=error.message))
        return None
    with ExitStack() as opened:
        tables = [opened.enter_context(Tables(run)) for run in runs]
        again = [one for one in judge(tables, [rule], detectors()) if one.evidence.get("subject") == finding.evidence.get("subject")]
    if again or not _ended_well(runs, work.runner):
        return None
    work.texts[finding.file] = work.texts[finding.file][0], new
    return Patch(file=finding.file, diff=diff_of(work.named(finding.file), text, new), runs=[run.id for run in runs])


def _tried(work: ChangedFiles, new: dict[str, str], held: list[str], cause: Cause | None, audit: Audit) -> list[Trace]:
    """Runs of the script with all changes so far and these: as many as have shown the cause.

    A factor that was found by being varied is varied in the second run.
    """
    runner = work.runner
    texts = work.changed(**new)
    question = Reason.of("cures", factor=cause.factor if cause is not None else None)
    if cause is not None and audit.search is not None and cause.factor in audit.search.varied:
        plain = runner.make(runner.plan_with(), "fix", 1, "experiment", question, texts)
        return plain + runner.make(runner.plan_with(varied=[cause.factor]), f"fix-vary-{cause.factor}", 1, "experiment", question, texts)
    showed = [run for run in runner.runs.made if cause is not None and run.id in cause.proof and cause.factor in run.meta["pinned"]]
    held = [name for name in held if name in runner.factors.available]
    return runner.make(runner.plan_with(held), "fix", max(len(showed), 2), "experiment", question, texts)


def _ended_well(runs: Sequence[Trace], runner: ExperimentRunner) -> bool:
    """Whether the runs of a changed script ended as the script does: well, if it ever does, and else with its own error."""
    usual = {_end(control) for control in runner.controls}
    good = {end for end in usual if end[0] == 0} or usual
    whole = all(why_not_whole(control, runner.plan) is None for control in runner.controls)
    return all(_end(run) in good and (not whole or why_not_whole(run, runner.plan) is None) for run in runs)


def _end(run: Trace) -> tuple[int | None, str]:
    """Exit status and kind of error; what an error says may be another thing each time."""
    return run.meta.get("exit"), str(run.meta.get("error") or "").partition(":")[0]
