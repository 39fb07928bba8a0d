"""Copies of the working directory, so that all runs start with the same files.

A snapshot is taken before the first run; each run that must not see another run's files is made in a fresh copy of it. Nothing here may
write to the user's folder, hard-link a file in it, or follow a link out of a copy. What is not copied is linked to the original and is not
pinned: the largest files, repositories, Python environments, and existing links that lead elsewhere.

A copy has another path than the original, and a script can see it. Copies are made in numbered slots (`auditor.launch.cache`), so that runs
made one after another have the same path; concurrent runs do not. What lies beside and above the working directory is linked beside and
above its copy, so that `../data` still resolves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from auditor.launch.cache import SLOT, slot
from auditor.launch.tree import (
    BUDGET,
    ENTRIES,
    Entry,
    TooManyError,
    copy_error,
    copy_failure,
    copy_tree,
    entries_of,
    is_reversed,
    make_tree,
    other_content,
    remove,
    with_parents,
    within,
)
from auditor.plan import Plan
from auditor.trace.files import make_folder

__all__ = ["Snapshot", "folder_for_copy", "in_scratch", "moved", "path_for_copy", "with_original_paths"]

_COMPILED = ".pyc"
#: How many levels above the working directory get links, and how many names such a folder may have at most.
_LEVELS = 2
_SURROUNDINGS = 1_000


@dataclass
class Snapshot:
    """A working directory as it was before the first run."""

    folder: Path
    cwd: Path
    linked: list[str] = field(default_factory=list)
    """Files that are not pinned: too large to copy, or unreadable, so they are linked to the original."""
    unavailable: str | None = None
    """Why there is no snapshot, in half a sentence."""
    without: tuple[str, ...] = ()
    before: dict[str, Entry] = field(default_factory=dict, repr=False)

    @classmethod
    def take(cls, cwd: Path, into: Path, without: Sequence[Path] = (), budget: int = BUDGET, most: int = ENTRIES) -> Snapshot:
        """Copy the tree `cwd` to `into`, a folder that does not exist yet; `into` and `without` are left out of the copy.

        Never raises: `unavailable` says why there is no snapshot, and a partial copy is removed.
        """
        snapshot = cls(into, cwd, without=tuple(os.path.realpath(path) for path in (into, *without)))
        try:
            entries = list(entries_of(cwd, snapshot.without, most))
            snapshot.linked = make_tree(entries, cwd, into, budget)
            snapshot.before = {entry.path: entry for entry in entries}
        except (OSError, TooManyError) as error:
            snapshot.unavailable = copy_failure(error, cwd, into)
        return snapshot

    def copy(self, to: Path, without: Sequence[str] = (), replaced: Mapping[str, str] | None = None) -> Path:
        """Make a fresh copy in the new folder `to`, without some files and with changed text in some.

        Raises `LaunchError` `no-scratch`.
        """
        if self.unavailable is not None:
            raise copy_error(self.unavailable)
        return copy_tree(self.folder, to, without, replaced or {})

    def changed(self, cwd: Path) -> list[str]:
        """Paths in `cwd` that are new, gone or changed; a file with the same size and modification time counts as unchanged.

        A folder counts if it is empty. A linked file has changed if its size or modification time has.
        """
        now = {entry.path: entry for entry in entries_of(cwd, self.without, None)}
        ours = [inside for path in self.without if (inside := within(path, os.path.realpath(cwd))) is not None]
        full = {above for path in (*now, *self.before, *ours) for above in with_parents(os.path.dirname(path))}
        return sorted(
            path
            for path in {*now, *self.before}
            if not path.endswith(_COMPILED) and path not in full and self._differs(cwd, path, self.before.get(path), now.get(path))
        )

    def outputs(self, cwd: Path) -> list[str]:
        """The changed files that existed before."""
        return [path for path in self.changed(cwd) if path in self.before]

    def _differs(self, cwd: Path, path: str, before: Entry | None, now: Entry | None) -> bool:
        if before is None or now is None:
            return True
        if now.kind == "link" and now.target == os.path.join(os.path.realpath(self.cwd), path):
            return False  # `cwd` is a copy that links to the original
        if before.kind != now.kind:
            return True
        if before.kind == "link":
            return before.target != now.target
        if before.kind == "folder" or (before.size, before.modified) == (now.size, now.modified):
            return False
        if before.size != now.size or path in self.linked:
            return True
        return other_content(self.folder / path, cwd / path)


@contextmanager
def in_scratch(plan: Plan, run: Path) -> Iterator[Plan]:
    """The plan in a copy of the working directory beside the run; the copy is removed at the end. Raises `LaunchError` `no-scratch`."""
    cwd = Path(plan.cwd)
    with folder_for_copy(run.parent, cwd) as to:
        without = plan.copy.outputs if plan.copy.leftovers == "vary" else ()
        if plan.copy.before is not None:
            copy_tree(Path(plan.copy.before), to, without, dict(plan.copy.patches))
        else:
            top = next(folder for folder in to.parents if folder.name.endswith(SLOT))
            _copy_now(cwd, to, (top, run), without, dict(plan.copy.patches))
        placed = moved(plan, cwd, to)
        yield replace(placed, copy=replace(placed.copy, leftovers="", patches=()))


@contextmanager
def folder_for_copy(runs: Path, cwd: Path) -> Iterator[Path]:
    """The folder for a copy of `cwd`, with what lies beside and above `cwd`; all of it is removed at the end.

    `runs`: the folder of the audit's runs. Raises `LaunchError` `no-scratch`.
    """
    with ExitStack() as stack:
        try:
            to = path_for_copy(stack.enter_context(slot(runs, cwd)), cwd)
        except OSError as error:
            raise copy_error(copy_failure(error, cwd, runs)) from error
        yield to


def moved(plan: Plan, original: Path, to: Path) -> Plan:
    """The plan in `to`, which is a copy of the tree `original`; absolute paths into the tree are mapped to the copy."""
    here, there = os.path.realpath(original), os.path.realpath(to)

    def translated(path: str) -> str:
        for root in dict.fromkeys((str(original), here)):
            inside = within(path, root)
            if inside is not None:
                return os.path.normpath(os.path.join(there, inside)) + (os.sep if path.endswith(os.sep) and inside != "." else "")
        return path

    cwd = translated(plan.cwd)

    def found(path: str) -> str:
        """A relative path that leads out of the tree becomes its old target; one that leads into the tree is mapped to the copy."""
        leads = os.path.join(plan.cwd, path)
        if within(leads, str(original)) is None and within(leads, here) is None:
            return leads
        return path if cwd != plan.cwd else translated(leads)

    def word(text: str) -> str:
        name, equals, value = text.partition("=")
        if equals and os.path.isabs(value):
            return name + equals + translated(value)
        if os.path.isabs(text):
            return translated(text)
        elsewhere = not os.path.lexists(os.path.join(cwd, text)) and os.path.lexists(os.path.join(plan.cwd, text))
        return found(text) if elsewhere else text

    first, *others = plan.script or ("",)
    if not os.path.isabs(first) and not first.startswith("-"):
        first = found(first)
    script = (word(first), *map(word, others)) if plan.script else ()
    variables = {}
    entries = plan.variable("PYTHONPATH")
    if entries:
        variables["PYTHONPATH"] = os.pathsep.join(
            translated(entry) if os.path.isabs(entry) else found(entry) if entry else entry for entry in entries.split(os.pathsep)
        )
    folder = plan.variable("PWD")
    if folder and os.path.isabs(folder) and within(os.path.realpath(folder), here) is not None:
        variables["PWD"] = translated(os.path.realpath(folder))  # the folder may have been reached through a link
    variables = {name: value for name, value in variables.items() if value != plan.variable(name)}
    copies = tuple((copy, _original(home, plan.copy.copies)) for copy, home in _path_pairs(there, here))
    placed = replace(plan.copy, copies=(*copies, *plan.copy.copies), at_home=plan.copy.at_home or (plan.cwd, plan.script))
    return replace(plan, cwd=cwd, script=script, copy=placed).with_environment(**variables)


def with_original_paths(text: str | None, copies: Sequence[tuple[str, str]]) -> str | None:
    """A text with the paths of copies replaced by those of their originals."""
    for copy, home in copies:
        text = text and text.replace(copy, home)
    return text


def path_for_copy(top: Path, cwd: Path) -> Path:
    """Path for a copy of `cwd` within `top`; links to what lies beside and above `cwd` are made beside and above it."""
    cwd = Path(os.path.realpath(cwd))
    above = list(cwd.parents)[:_LEVELS]
    make_folder(top, exist_ok=True)
    at = top
    for folder, taken in zip(reversed(above), [*(path.name for path in reversed(above[:-1])), cwd.name], strict=True):
        names = _names(folder)
        for name in reversed(names) if is_reversed(at) else names:
            if name != taken and folder / name != top:
                os.symlink(folder / name, at / name)
        at = at / taken
        if folder != cwd.parent:
            at.mkdir()
    return at if above else top / "root"


def _copy_now(cwd: Path, to: Path, left: Sequence[Path], without: Sequence[str], replaced: Mapping[str, str]) -> None:
    """Copy the working directory itself, where there is no snapshot."""
    taken = Snapshot.take(cwd, to, left)
    if taken.unavailable is not None:
        raise copy_error(taken.unavailable)
    if without or replaced:
        taken.folder = to.rename(to.with_name(to.name + ".before"))
        taken.copy(to, without, replaced)
        remove(taken.folder)


def _original(path: str, copies: Iterable[tuple[str, str]]) -> str:
    for copy, home in copies:
        inside = within(path, copy)
        if inside is not None:
            return os.path.normpath(os.path.join(home, inside))
    return path


def _path_pairs(there: str, here: str) -> Iterator[tuple[str, str]]:
    """Pairs of paths (copy, original): the working directory, and in a folder of ours also the folders above it."""
    yield there, here
    copy, home = Path(there), Path(here)
    above = []
    for _ in range(_LEVELS):
        if copy.name != home.name:
            return
        copy, home = copy.parent, home.parent
        above.append((str(copy), str(home)))
        if copy.name.endswith(SLOT):
            yield from above
            return


def _names(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return names if len(names) <= _SURROUNDINGS else []
