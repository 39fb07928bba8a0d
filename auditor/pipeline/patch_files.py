"""The user's files with changes: held in memory, written as a patch, or put into the files themselves on request and at the very end."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from auditor.errors import UsageError
from auditor.mend import diff_of
from auditor.pipeline.experiment_runner import ExperimentRunner
from auditor.results import Audit, Patch, Reason

#: How a patch of ours begins: only such a file is written over.
_PREAMBLE = "Made by repro-audit: "


@dataclass
class ChangedFiles:
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
        return line_after(*self.texts[file], line)

    def changed(self, **more: str) -> dict[str, str]:
        """All texts that are not as they were."""
        texts = {file: new for file, (_, new) in self.texts.items()} | more
        return {file: new for file, new in texts.items() if new != self.texts[file][0]}

    def named(self, file: str) -> str:
        """A file as a patch names it: as seen from the working directory, or else from the script's folder."""
        path = self.path(file)
        return path.relative_to(self.cwd if path.is_relative_to(self.cwd) else self.home).as_posix()


def line_after(old: str, new: str, line: int) -> int:
    """Where a line of a text is in a later one."""
    for tag, a, b, c, d in SequenceMatcher(None, old.split("\n"), new.split("\n"), autojunk=False).get_opcodes():
        if a <= line - 1 < b:
            at = c + (line - 1 - a)
            return (at if tag == "equal" else max(min(at, d - 1), c)) + 1
    return line


def written(work: ChangedFiles, texts: Mapping[str, str]) -> Reason:
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


def apply_patches(work: ChangedFiles, patches: Sequence[Patch], audit: Audit) -> dict[str, str]:
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
