"""Turns causes into changes of the script, and hands over only those that were run and seen to work.

A change is tried in a copy: the user's files are touched only on request, and then only at the very end. What goes wrong there is a note of
the audit: it must not cost the user what the runs have shown.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from auditor.errors import LaunchError, UsageError
from auditor.judge import Rule, judge
from auditor.mend import diff_of, mended, zeroed
from auditor.pipeline.experiment_runner import ExperimentRunner
from auditor.pipeline.verdict import compared, why_not_whole
from auditor.plugins import detectors
from auditor.results import Audit, Cause, Divergence, Explanation, Finding, Patch, Reason
from auditor.trace.reader import Trace
from auditor.trace.tables import Tables

#: How a patch of ours begins: only such a file is written over.
_PREAMBLE = "Made by repro-audit: "
#: Files at most that a patched script removes.
_REMOVED = 3


@dataclass
class Mending:
    """The user's files as they are and as they are to be; changes are added one after the other."""

    runner: ExperimentRunner
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def cwd(self) -> Path:
        """The working directory of the script."""
        return Path(os.path.realpath(self.runner.plan.cwd))

    @property
    def home(self) -> Path:
        """The folder of the script."""
        return Path(os.path.realpath(Path(self.cwd, self.runner.plan.script[0]).parent))

    def path(self, file: str) -> Path:
        """Where a file is; one that is a link stays that."""
        path = self.cwd / file
        return Path(os.path.realpath(path.parent)) / path.name

    def text(self, file: str) -> str | None:
        """A file with the changes so far; None if it cannot be read or lies neither in the working directory nor beside the script."""
        if not any(self.path(file).is_relative_to(folder) for folder in (self.cwd, self.home)):
            return None
        if file not in self.texts:
            try:
                with self.path(file).open(encoding="utf-8", newline="") as opened:
                    text = opened.read()
            except (OSError, ValueError):
                return None
            self.texts[file] = text, text
        return self.texts[file][1]

    def line(self, file: str, line: int) -> int:
        """Where a line of a file is after the changes so far."""
        return _line_after(*self.texts[file], line)

    def changed(self, **more: str) -> dict[str, str]:
        """All texts that are not as they were."""
        texts = {file: new for file, (_, new) in self.texts.items()} | more
        return {file: new for file, new in texts.items() if new != self.texts[file][0]}

    def named(self, file: str) -> str:
        """A file as a patch names it: as seen from the working directory, or else from the script's folder."""
        path = self.path(file)
        return path.relative_to(self.cwd if path.is_relative_to(self.cwd) else self.home).as_posix()


def _line_after(old: str, new: str, line: int) -> int:
    """Where a line of a text is in a later one."""
    for tag, a, b, c, d in SequenceMatcher(None, old.split("\n"), new.split("\n"), autojunk=False).get_opcodes():
        if a <= line - 1 < b:
            at = c + (line - 1 - a)
            return (at if tag == "equal" else max(min(at, d - 1), c)) + 1
    return line


def mend(audit: Audit, runner: ExperimentRunner, rules: Sequence[Rule], write: bool, apply: bool) -> None:
    """Add a patch to each cause and stale gradient that a few lines cure; write them all to a file, or into the script itself."""
    work = Mending(runner)
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
        left = _put_in(work, [patch for patch in patches if patch is not None], audit)
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


def _cured(work: Mending, cause: Cause, audit: Audit, rest: list[str]) -> Patch | None:
    """The first of the candidate changes with which the script does the same each time, with the other causes held still."""
    assert cause.file is not None
    assert cause.line is not None
    if not cause.proved and work.runner.intermittent is not None:
        return None  # that runs agree would show nothing
    text = work.text(cause.file)
    if text is None:
        return None
    here = cause.model_copy(update={"line": work.line(cause.file, cause.line)})
    divergence = work.runner.difference_of(cause) or audit.divergence
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
            there = [path for path in removed if work.runner.snapshot is not None and path in work.runner.snapshot.before]
            if there:
                audit.notes.append(Reason.of("patch-removes", paths=[*there]))
            work.texts[cause.file] = work.texts[cause.file][0], new
            return Patch(file=cause.file, diff=diff_of(work.named(cause.file), text, new), runs=[run.id for run in runs])
        other = _leftover(work.runner, left, cause, removed)
        if other is not None and len(removed) < _REMOVED:
            # behind the first file that was found there is another one
            later = cause.model_copy(update={"line": _line_after(text, new, here.line or 1)})
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


def _zeroed(work: Mending, finding: Finding, rule: Rule, audit: Audit) -> Patch | None:
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


def _tried(work: Mending, new: dict[str, str], held: list[str], cause: Cause | None, audit: Audit) -> list[Trace]:
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
    held = [name for name in held if name in runner.available]
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


def written(work: Mending, texts: Mapping[str, str]) -> Reason:
    """Write changes as one patch, named for the script, to the working directory; returns what to tell of it.

    Raises `UsageError`: `output-exists`, `output-unwritable`.
    """
    first, *others = work.runner.plan.script
    name = others[0] if first == "-m" else Path(os.path.abspath(work.cwd / first)).stem  # noqa: PTH100  # it may be a folder
    target = work.cwd / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name) or 'script'}-fix.patch"
    paths = {file: work.path(file) for file in texts}
    elsewhere = [path for path in paths.values() if not path.is_relative_to(work.cwd)]
    root = work.cwd if not elsewhere else work.home if len(elsewhere) == len(paths) else Path(os.path.commonpath([work.cwd, work.home]))
    folder = f"-d {shlex.quote(os.path.relpath(root, work.cwd))} " if elsewhere else ""
    command = f"patch -p1 {folder}< {target.name}"
    diffs = [diff_of(paths[file].relative_to(root).as_posix(), work.texts[file][0], new) for file, new in texts.items()]
    try:
        if os.path.lexists(target) and not _is_ours(target):
            raise UsageError("output-exists", f"the changes were not written: {target.name} is there and was not made by repro-audit")
        with target.open("w", encoding="utf-8", newline="") as opened:
            opened.write(f"{_PREAMBLE}{command}\n\n{''.join(diffs)}")
    except OSError as error:
        raise UsageError("output-unwritable", f"the changes were not written: {target.name}: {error.strerror}") from error
    return Reason.of("changes-written", file=target.name, command=command)


def _is_ours(target: Path) -> bool:
    if not target.is_file():
        return False
    with target.open("rb") as opened:
        return opened.read(len(_PREAMBLE)) == _PREAMBLE.encode()


def _put_in(work: Mending, patches: Sequence[Patch], audit: Audit) -> dict[str, str]:
    """Change the user's files; returns the changes that could not be made."""
    left: dict[str, str] = {}
    for file, text in work.changed().items():
        try:
            backup = put_into(work.path(file), work.texts[file][0], text)
        except UsageError as error:
            audit.notes.append(Reason.of("error", slug=error.slug, message=error.message))
            left[file] = text
            continue
        for patch in patches:
            if patch.file == file:
                patch.applied, patch.backup = True, None if backup is None else str(Path(file).with_name(backup))
    return left


def put_into(path: Path, old: str, new: str) -> str | None:
    """Give a file another text; as it was it is in git, or else in a backup beside it, whose name is returned.

    Raises `UsageError`: `output-unwritable`, or `script-changed` if the file is not as it was when the runs were made.
    """
    backup: Path | None = None
    try:
        if path.read_bytes() != old.encode():
            raise UsageError("script-changed", f"{path.name} was not changed: it is not as it was when the runs were made")
        # one who may do everything, as root, may write to it even so
        if not os.access(path, os.W_OK) or not stat.S_IMODE(path.stat().st_mode) & 0o222:
            raise UsageError("output-unwritable", f"{path.name} was not changed: it is read-only")
        if not is_committed(path):
            backup = next(name for k in range(1000) if not os.path.lexists(name := path.with_name(f"{path.name}.orig{k or ''}")))
            shutil.copy2(path, backup)
        with path.open("w", encoding="utf-8", newline="") as opened:
            opened.write(new)
    except OSError as error:
        kept = f"; as it was it is in {backup.name}" if backup is not None and backup.exists() else ""
        raise UsageError("output-unwritable", f"{path.name} could not be changed: {error.strerror}{kept}") from error
    return None if backup is None else backup.name


def is_committed(path: Path) -> bool:
    """Whether the last commit has the file as it is. By its content: git can be told to take a changed file for an unchanged one."""
    git = shutil.which("git")
    if git is None:
        return False
    asked = (["rev-parse", "--verify", "--quiet", f"HEAD:./{path.name}"], ["hash-object", "--", path.name])
    known, here = (subprocess.run([git, *words], cwd=path.parent, capture_output=True, check=False) for words in asked)
    return known.returncode == 0 and here.returncode == 0 and known.stdout == here.stdout
