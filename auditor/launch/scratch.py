"""Copies of the working directory, in which runs begin with the same files.

A snapshot is taken before the first run; each run that must not see what another left is made in a fresh copy of it. Nothing here may
write to the user's folder, make a hard link to a file in it, or follow a link out of a copy. What is not copied is linked to the original
and is not held still: the largest files, repositories, environments of Python, and what a link led to anyway.

A copy has another path than the original, and a script can see it. Copies are made in numbered slots (`auditor.launch.cache`), so that
runs made one after the other have the same path; runs at the same time do not. What lies beside and above the working directory is linked
beside and above its copy, so that `../data` is found there.
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
    and_above,
    copy_tree,
    entries_of,
    is_reversed,
    make_tree,
    no_scratch,
    other_content,
    remove,
    why_not,
    within,
)
from auditor.plan import Plan
from auditor.trace.files import make_folder

__all__ = ["Snapshot", "in_room", "in_scratch", "moved", "room", "told_of_originals"]

_COMPILED = ".pyc"
#: How far above the working directory links are made, and how many names a folder may have for that.
_LEVELS = 2
_SURROUNDINGS = 1_000


@dataclass
class Snapshot:
    """A working directory as it was."""

    folder: Path
    cwd: Path
    linked: list[str] = field(default_factory=list)
    """Files that are not held still: they were too large to be copied or could not be read, and are linked to the original."""
    unavailable: str | None = None
    """Why there is none, in half a sentence."""
    without: tuple[str, ...] = ()
    before: dict[str, Entry] = field(default_factory=dict, repr=False)

    @classmethod
    def take(cls, cwd: Path, into: Path, without: Sequence[Path] = (), budget: int = BUDGET, most: int = ENTRIES) -> Snapshot:
        """Copy the tree `cwd` to `into`, a folder that is not there yet; `into` and `without` are no part of it.

        Never raises: `unavailable` says why there is no snapshot, and then nothing is left of it.
        """
        snapshot = cls(into, cwd, without=tuple(os.path.realpath(path) for path in (into, *without)))
        try:
            entries = list(entries_of(cwd, snapshot.without, most))
            snapshot.linked = make_tree(entries, cwd, into, budget)
            snapshot.before = {entry.path: entry for entry in entries}
        except (OSError, TooManyError) as error:
            snapshot.unavailable = why_not(error, cwd, into)
        return snapshot

    def copy(self, to: Path, without: Sequence[str] = (), replaced: Mapping[str, str] | None = None) -> Path:
        """A fresh copy in the folder `to`, which is not there yet, without some files and with another text in some.

        Raises `LaunchError` `no-scratch`.
        """
        if self.unavailable is not None:
            raise no_scratch(self.unavailable)
        return copy_tree(self.folder, to, without, replaced or {})

    def changed(self, cwd: Path) -> list[str]:
        """What is new, gone or of other content in `cwd`; a file of the same size and time of change counts as unchanged.

        A folder counts if it is empty. A file that is only linked has changed if its size or time of change has.
        """
        now = {entry.path: entry for entry in entries_of(cwd, self.without, None)}
        ours = [inside for path in self.without if (inside := within(path, os.path.realpath(cwd))) is not None]
        full = {above for path in (*now, *self.before, *ours) for above in and_above(os.path.dirname(path))}
        return sorted(
            path
            for path in {*now, *self.before}
            if not path.endswith(_COMPILED) and path not in full and self._differs(cwd, path, self.before.get(path), now.get(path))
        )

    def outputs(self, cwd: Path) -> list[str]:
        """Those of the changed files that were there before."""
        return [path for path in self.changed(cwd) if path in self.before]

    def _differs(self, cwd: Path, path: str, before: Entry | None, now: Entry | None) -> bool:
        if before is None or now is None:
            return True
        if now.kind == "link" and now.target == os.path.join(os.path.realpath(self.cwd), path):
            return False  # `cwd` is a copy, in which it is linked
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
    """The plan in a copy of the working directory, beside the run; the copy is removed at the end. Raises `LaunchError` `no-scratch`."""
    cwd = Path(plan.cwd)
    with in_room(run.parent, cwd) as to:
        without = plan.outputs if plan.leftovers == "vary" else ()
        if plan.before is not None:
            copy_tree(Path(plan.before), to, without, dict(plan.patches))
        else:
            top = next(folder for folder in to.parents if folder.name.endswith(SLOT))
            _copy_now(cwd, to, (top, run), without, dict(plan.patches))
        yield replace(moved(plan, cwd, to), leftovers="", patches=())


@contextmanager
def in_room(runs: Path, cwd: Path) -> Iterator[Path]:
    """Where a copy of `cwd` goes, with what lies beside and above `cwd`; all of it is removed at the end.

    `runs`: the folder of the audit's runs. Raises `LaunchError` `no-scratch`.
    """
    with ExitStack() as stack:
        try:
            to = room(stack.enter_context(slot(runs, cwd)), cwd)
        except OSError as error:
            raise no_scratch(why_not(error, cwd, runs)) from error
        yield to


def moved(plan: Plan, original: Path, to: Path) -> Plan:
    """The plan in `to`, which is a copy of the tree `original`; what it names by an absolute path within the tree, it finds in the copy."""
    here, there = os.path.realpath(original), os.path.realpath(to)

    def translated(path: str) -> str:
        for root in dict.fromkeys((str(original), here)):
            inside = within(path, root)
            if inside is not None:
                return os.path.normpath(os.path.join(there, inside)) + (os.sep if path.endswith(os.sep) and inside != "." else "")
        return path

    cwd = translated(plan.cwd)

    def found(path: str) -> str:
        """A relative path that leads out of the tree, by where it led to; one that leads into it from elsewhere, by where that is now."""
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
        variables["PWD"] = translated(os.path.realpath(folder))  # a shell may know the folder by a link
    variables = {name: value for name, value in variables.items() if value != plan.variable(name)}
    copies = tuple((copy, _original(home, plan.copies)) for copy, home in _alike(there, here))
    return replace(
        plan, cwd=cwd, script=script, copies=(*copies, *plan.copies), at_home=plan.at_home or (plan.cwd, plan.script)
    ).with_environment(**variables)  # fmt: skip


def told_of_originals(text: str | None, copies: Sequence[tuple[str, str]]) -> str | None:
    """A text in which paths of copies are those of their originals."""
    for copy, home in copies:
        text = text and text.replace(copy, home)
    return text


def room(top: Path, cwd: Path) -> Path:
    """Where in `top` a copy of `cwd` goes; links to what lies beside and above `cwd` are made beside and above that."""
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
    """A copy without a snapshot to make it of."""
    taken = Snapshot.take(cwd, to, left)
    if taken.unavailable is not None:
        raise no_scratch(taken.unavailable)
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


def _alike(there: str, here: str) -> Iterator[tuple[str, str]]:
    """A copy and its original, and the folders above them if the copy is in a room of ours."""
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
