"""Turns causes into changes of the script, and hands over only those that were run and seen to work.

A change is tried in a copy: the user's files are touched only on request, and then only at the very end.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from auditor.compare import compare
from auditor.errors import LaunchError, UsageError
from auditor.judge import Rule, judge
from auditor.mend import diff_of, mended, zeroed
from auditor.pipeline.causes import Laboratory
from auditor.pipeline.verdict import ended_otherwise
from auditor.plugins import detectors
from auditor.results import Audit, Cause, Divergence, Finding, Patch
from auditor.trace.reader import Trace
from auditor.trace.tables import Tables

#: Detector of the finding that a line can cure; the names of the tensors are in its evidence.
_STALE = "stale-gradient"
#: How a patch of ours begins: only such a file is written over.
_PREAMBLE = "Made by repro-audit: "


@dataclass
class Mending:
    """The user's files as they are and as they are to be; changes are added one after the other."""

    lab: Laboratory
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)

    def text(self, file: str) -> str | None:
        """A file with the changes so far; None if it cannot be read or is none of the user's own."""
        if file not in self.texts:
            path = Path(self.lab.plan.cwd, file)
            try:
                with path.open(encoding="utf-8", newline="") as opened:
                    text = opened.read()
            except (OSError, ValueError):
                return None
            self.texts[file] = text, text
        return self.texts[file][1]

    def line(self, file: str, line: int) -> int:
        """Where a line of a file is after the changes so far."""
        old, new = (text.split("\n") for text in self.texts[file])
        for tag, a, b, c, _ in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if a <= line - 1 < b:
                return c + (line - 1 - a) + 1 if tag == "equal" else c + 1
        return line

    def changed(self, **more: str) -> dict[str, str]:
        """All texts that are not as they were."""
        texts = {file: new for file, (_, new) in self.texts.items()} | more
        return {file: new for file, new in texts.items() if new != self.texts[file][0]}


def mend(audit: Audit, lab: Laboratory, rules: Sequence[Rule], write: bool, apply: bool) -> None:
    """Add a patch to each cause and stale gradient that a few lines cure; write them all to a file, or into the script itself."""
    work = Mending(lab)
    for cause in audit.causes:
        if cause.grade == "logical" and cause.file is not None and cause.line is not None:
            rest = [other.factor for other in audit.causes if other.patch is None and other.factor != cause.factor]
            cause.patch = _cured(work, cause, audit, rest)
    rule = next((rule for rule in rules if rule.detector == _STALE), None)
    for finding in audit.findings:
        if rule is not None and finding.rule == rule.id:
            finding.patch = _zeroed(work, finding, rule)
    patches = [patch for patch in [*(cause.patch for cause in audit.causes), *(one.patch for one in audit.findings)] if patch is not None]
    if apply:
        for file, text in work.changed().items():
            backup = _apply(Path(lab.plan.cwd, file), text)
            for patch in patches:
                if patch.file == file:
                    patch.applied, patch.backup = True, backup
    elif write and patches:
        audit.notes.append(f"the changes are in {_written(work, lab)}")
    elif write:
        audit.notes.append("no change of a few lines was found that makes the runs agree, so no patch was written")


def _cured(work: Mending, cause: Cause, audit: Audit, rest: list[str]) -> Patch | None:
    """The first of the candidate changes with which the script does the same twice, with the other causes held still."""
    assert cause.file is not None
    assert cause.line is not None
    text = work.text(cause.file)
    if text is None:
        return None
    here = cause.model_copy(update={"line": work.line(cause.file, cause.line)})
    divergence = work.lab.difference_of(cause) or audit.divergence
    for new in mended(here, text, lane=divergence.lane if divergence else "main", leftover=_leftover(divergence, cause)):
        try:
            runs = _run_twice(work, {cause.file: new}, rest, cause)
        except LaunchError as error:
            audit.notes.append(f"no change could be tried: {error.message}")
            return None
        if _alike(runs, work.lab):
            work.texts[cause.file] = work.texts[cause.file][0], new
            return Patch(file=cause.file, diff=_diff(work.lab, cause.file, text, new), runs=[run.id for run in runs])
    return None


def _leftover(divergence: Divergence | None, cause: Cause) -> str | None:
    files = divergence.detail.files if divergence is not None and cause.factor == "leftover-files" else []
    return next((file.path for file in files if file.op == "read"), None)


def _zeroed(work: Mending, finding: Finding, rule: Rule) -> Patch | None:
    """The gradients of a finding zeroed; shown by a run in which the finding is gone."""
    text = work.text(finding.file) if finding.file is not None else None
    if text is None or finding.file is None or finding.line is None:
        return None
    new: str | None = text
    for name in str(finding.evidence.get("subject", "")).split():
        new = zeroed(new, work.line(finding.file, finding.line), name) if new is not None else None
    if new is None or new == text:
        return None
    runs = _run_twice(work, {finding.file: new}, [], None)
    with ExitStack() as opened:
        tables = [opened.enter_context(Tables(run)) for run in runs]
        again = [one for one in judge(tables, [rule], detectors()) if one.evidence.get("subject") == finding.evidence.get("subject")]
    if again or any(run.meta.get("exit") for run in runs):
        return None
    work.texts[finding.file] = work.texts[finding.file][0], new
    return Patch(file=finding.file, diff=_diff(work.lab, finding.file, text, new), runs=[run.id for run in runs])


def _run_twice(work: Mending, new: dict[str, str], held: list[str], cause: Cause | None) -> list[Trace]:
    """The script with all changes so far and these; a factor that was found by being varied is varied in the second run."""
    lab = work.lab
    texts = work.changed(**new)
    why = f"does a change cure {cause.factor}" if cause is not None else "does a change cure it"
    varied = cause.factor if cause is not None and not any(run.startswith("pin-") for run in cause.proof) else None
    if varied is None:
        held = [name for name in held if name in lab.available]
        return lab.make(lab.plan_with(held), "fix", 2, "experiment", why, texts)
    plain = lab.make(lab.plan_with(), "fix", 1, "experiment", why, texts)
    return plain + lab.make(lab.plan_with(varied=[varied]), f"fix-vary-{varied}", 1, "experiment", why, texts)


def _alike(runs: Sequence[Trace], lab: Laboratory) -> bool:
    """Whether the runs of a changed script agree, and end as the script did."""
    usual = {control.meta.get("exit") for control in lab.controls}
    if any(run.meta.get("exit") not in usual for run in runs):
        return False
    return compare(runs[0], runs[1]).divergence is None and not ended_otherwise(runs[0], runs[1])


def _diff(lab: Laboratory, file: str, old: str, new: str) -> str:
    return diff_of(_name(lab, file), old, new)


def _name(lab: Laboratory, file: str) -> str:
    """A file as a patch names it: as seen from the working directory where that is possible."""
    path = Path(file)
    return path.name if path.is_absolute() else path.as_posix()


def _written(work: Mending, lab: Laboratory) -> str:
    """Write all changes as one patch beside the script's name in the working directory. Raises `UsageError` `output-unwritable`."""
    script = lab.plan.script[-1 if lab.plan.script[0] == "-m" else 0]
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(script).stem) or "script"
    target = Path(lab.plan.cwd, f"{stem}-fix.patch")
    try:
        if target.exists() and not target.read_text(encoding="utf-8").startswith(_PREAMBLE):
            raise UsageError("output-exists", f"{target} is there and was not made by repro-audit: move it away")
        diffs = [_diff(lab, file, work.texts[file][0], new) for file, new in work.changed().items()]
        with target.open("w", encoding="utf-8", newline="") as opened:
            opened.write(f"{_PREAMBLE}patch -p1 < {target.name}\n\n" + "".join(diffs))
    except OSError as error:
        raise UsageError("output-unwritable", f"cannot write {target}: {error.strerror}") from error
    return target.name


def _apply(path: Path, text: str) -> str | None:
    """Write a file; as it was it is under version control, or in a backup, whose name is returned. Raises `UsageError`."""
    backup = None
    try:
        if not _is_committed(path):
            backup = next(name for k in range(1000) if not (name := path.with_name(f"{path.name}.orig{k or ''}")).exists())
            shutil.copy2(path, backup)
        with path.open("w", encoding="utf-8", newline="") as opened:
            opened.write(text)
    except OSError as error:
        raise UsageError("output-unwritable", f"cannot change {path}: {error.strerror}") from error
    return None if backup is None else backup.name


def _is_committed(path: Path) -> bool:
    """Whether git has the file as it is."""
    git = shutil.which("git")
    if git is None:
        return False
    asked = (["ls-files", "--error-unmatch"], ["status", "--porcelain"])
    known, clean = (
        subprocess.run([git, *words, "--", path.name], cwd=path.parent, capture_output=True, check=False) for words in asked
    )  # fmt: skip
    return known.returncode == 0 and clean.returncode == 0 and not clean.stdout.strip()
