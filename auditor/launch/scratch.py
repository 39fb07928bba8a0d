"""Copies of the working directory, in which runs begin with the same files.

A snapshot is taken before the first run; each run that must not see what another left is made in a fresh copy of it. Nothing here may
write to the user's folder, make a hard link to a file in it, or follow a link out of a copy. What is not copied is linked to the original
and is not held still: the largest files, repositories, environments of Python, and what a link led to anyway.

A copy has another path than the original, and a script can see it. Copies are made in numbered slots, so that runs made one after the
other have the same path; runs at the same time do not. What lies beside and above the working directory is linked beside and above its
copy, so that `../data` is found there.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, groupby
from pathlib import Path
from typing import NamedTuple

from auditor.errors import LaunchError
from auditor.plan import Plan

__all__ = ["BUDGET", "ENTRIES", "Snapshot", "in_scratch", "moved", "remove", "room", "told_of_originals"]

#: Bytes that are copied where the file system cannot share them between two files.
BUDGET = 256 << 20
#: Files, folders and links of a working directory that is copied at all.
ENTRIES = 20_000
#: Folders within each other: what removes a tree calls itself for each.
_DEPTH = 200
#: Folders that no run is expected to write to, and that are large: linked. So is an environment of Python, whatever its name.
_LINKED = (".git", ".hg", "node_modules")
_ENVIRONMENT = "pyvenv.cfg"
#: Python's own cache is made anew.
_LEFT_OUT = "__pycache__"
_COMPILED = ".pyc"
#: How far above the working directory links are made, and how many names a folder may have for that.
_LEVELS = 2
_SURROUNDINGS = 1_000
_SLOT = ".scratch"
#: FICLONE of ioctl_ficlone(2): the second file shares the first one's blocks until one of the two is written.
_FICLONE = 0x40049409
_CHUNK = 1 << 20
#: How often removing a copy is tried, when processes that outlived their run still write to it.
_REMOVALS = 5


class _Entry(NamedTuple):
    """A file, folder or link of a tree; `target` is what a link says in a copy of the tree."""

    path: str
    kind: str
    size: int = 0
    modified: int = 0
    mode: int = 0
    device: int = 0
    target: str = ""


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
    before: dict[str, _Entry] = field(default_factory=dict, repr=False)

    @classmethod
    def take(cls, cwd: Path, into: Path, without: Sequence[Path] = (), budget: int = BUDGET, most: int = ENTRIES) -> Snapshot:
        """Copy the tree `cwd` to `into`, a folder that is not there yet; `into` and `without` are no part of it.

        Never raises: `unavailable` says why there is no snapshot, and then nothing is left of it.
        """
        snapshot = cls(into, cwd, without=tuple(os.path.realpath(path) for path in (into, *without)))
        try:
            entries = list(_entries(cwd, snapshot.without, most))
            snapshot.linked = _make(entries, cwd, into, budget)
            snapshot.before = {entry.path: entry for entry in entries}
        except (OSError, _TooManyError) as error:
            snapshot.unavailable = _why_not(error, cwd, into)
        return snapshot

    def copy(self, to: Path, without: Sequence[str] = (), replaced: Mapping[str, str] | None = None) -> Path:
        """A fresh copy in the folder `to`, which is not there yet, without some files and with another text in some.

        Raises `LaunchError` `no-scratch`.
        """
        if self.unavailable is not None:
            raise _no_scratch(self.unavailable)
        return _copy(self.folder, to, without, replaced or {})

    def changed(self, cwd: Path) -> list[str]:
        """What is new, gone or of other content in `cwd`; a file of the same size and time of change counts as unchanged.

        A folder counts if it is empty. A file that is only linked has changed if its size or time of change has.
        """
        now = {entry.path: entry for entry in _entries(cwd, self.without, None)}
        ours = [inside for path in self.without if (inside := _within(path, os.path.realpath(cwd))) is not None]
        full = {above for path in (*now, *self.before, *ours) for above in _and_above(os.path.dirname(path))}
        return sorted(
            path
            for path in {*now, *self.before}
            if not path.endswith(_COMPILED) and path not in full and self._differs(cwd, path, self.before.get(path), now.get(path))
        )

    def outputs(self, cwd: Path) -> list[str]:
        """Those of the changed files that were there before."""
        return [path for path in self.changed(cwd) if path in self.before]

    def _differs(self, cwd: Path, path: str, before: _Entry | None, now: _Entry | None) -> bool:
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
        return _other_content(self.folder / path, cwd / path)


@contextmanager
def in_scratch(plan: Plan, run: Path) -> Iterator[Plan]:
    """The plan in a copy of the working directory, beside the run; the copy is removed at the end. Raises `LaunchError` `no-scratch`."""
    cwd = Path(plan.cwd)
    try:
        top = _slot(Path(os.path.realpath(run)).parent)
    except OSError as error:
        raise _no_scratch(_why_not(error, run.parent, run.parent)) from error
    try:
        without = plan.outputs if plan.leftovers == "vary" else ()
        try:
            to = room(top, cwd)
        except OSError as error:
            raise _no_scratch(_why_not(error, cwd, top)) from error
        if plan.before is not None:
            _copy(Path(plan.before), to, without, dict(plan.patches))
        else:
            _copy_now(cwd, to, (top, run), without, dict(plan.patches))
        yield replace(moved(plan, cwd, to), leftovers="", patches=())
    finally:
        remove(top)


def moved(plan: Plan, original: Path, to: Path) -> Plan:
    """The plan in `to`, which is a copy of the tree `original`; what it names by an absolute path within the tree, it finds in the copy."""
    here, there = os.path.realpath(original), os.path.realpath(to)

    def translated(path: str) -> str:
        for root in dict.fromkeys((str(original), here)):
            inside = _within(path, root)
            if inside is not None:
                return os.path.normpath(os.path.join(there, inside)) + (os.sep if path.endswith(os.sep) and inside != "." else "")
        return path

    cwd = translated(plan.cwd)

    def found(path: str) -> str:
        """A relative path that leads out of the tree, by where it led to; one that leads into it from elsewhere, by where that is now."""
        leads = os.path.join(plan.cwd, path)
        if _within(leads, str(original)) is None and _within(leads, here) is None:
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
    if folder and os.path.isabs(folder) and _within(os.path.realpath(folder), here) is not None:
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
    top.mkdir(parents=True, exist_ok=True)
    at = top
    for folder, taken in zip(reversed(above), [*(path.name for path in reversed(above[:-1])), cwd.name], strict=True):
        names = _names(folder)
        for name in reversed(names) if _is_reversed(at) else names:
            if name != taken and folder / name != top:
                os.symlink(folder / name, at / name)
        at = at / taken
        if folder != cwd.parent:
            at.mkdir()
    return at if above else top / "root"


def remove(tree: Path) -> None:
    """Remove a copy, as far as that is possible; what its links lead to is not touched."""
    if os.path.islink(tree):
        os.unlink(tree)
    for k in range(_REMOVALS):
        _flatten(tree, f".{k}-")  # a run can make more folders within each other than `rmtree` calls itself
        shutil.rmtree(tree, ignore_errors=True)
        if not os.path.lexists(tree):
            return
        time.sleep(0.1 * (k + 1))


def _flatten(tree: Path, prefix: str) -> None:
    """Move all folders of a tree to its top, each with all rights."""
    numbers = count()
    waiting = [os.fspath(tree)]
    while waiting:
        folder = waiting.pop()
        try:
            os.chmod(folder, 0o700)
            with os.scandir(folder) as entries:
                within = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        for path in within:
            up = os.path.join(tree, f"{prefix}{next(numbers)}")
            try:
                os.chmod(path, 0o700)  # else it cannot be moved
                os.rename(path, up)
            except OSError:
                continue
            waiting.append(up)


def _copy_now(cwd: Path, to: Path, left: Sequence[Path], without: Sequence[str], replaced: Mapping[str, str]) -> None:
    """A copy without a snapshot to make it of."""
    taken = Snapshot.take(cwd, to, left)
    if taken.unavailable is not None:
        raise _no_scratch(taken.unavailable)
    if without or replaced:
        taken.folder = to.rename(to.with_name(to.name + ".before"))
        taken.copy(to, without, replaced)
        remove(taken.folder)


class _TooManyError(Exception):
    """A tree has more entries than are copied."""


def _no_scratch(why: str) -> LaunchError:
    return LaunchError("no-scratch", f"the working directory cannot be copied for the run: {why}")


def _why_not(error: Exception, cwd: Path, into: Path) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"there is no space left for it in {into.parent}"
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    what = _within(path, os.path.realpath(cwd)) or _within(path, str(cwd)) or path or str(into)
    return f"{what if what != '.' else cwd}: {error.strerror or error}"[:300]


def _within(path: str, root: str) -> str | None:
    """The rest of a path behind `root`; None if it does not lie there."""
    inside = os.path.relpath(path, root) if os.path.isabs(path) else os.pardir
    return None if inside == os.pardir or inside.startswith(os.pardir + os.sep) else inside


def _original(path: str, copies: Iterable[tuple[str, str]]) -> str:
    for copy, home in copies:
        inside = _within(path, copy)
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
        if copy.name.endswith(_SLOT):
            yield from above
            return


def _slot(parent: Path) -> Path:
    """A new folder, of the first number that is free."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        try:
            top = parent / f"{number}{_SLOT}"
            top.mkdir()
            return top
        except FileExistsError:
            continue
    raise AssertionError  # numbers do not end


def _names(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return names if len(names) <= _SURROUNDINGS else []


def _is_reversed(folder: Path | str) -> bool:
    """Whether a directory gives its names in the order opposite to that in which they were made, as a tmpfs does."""
    probe = os.path.join(folder, ".order")
    os.mkdir(probe)
    try:
        for name in "abc":
            os.mkdir(os.path.join(probe, name))
        return os.listdir(probe) == ["c", "b", "a"]
    finally:
        shutil.rmtree(probe)


def _entries(root: Path, without: Sequence[str], most: int | None) -> Iterator[_Entry]:
    """All of a tree, each folder's in the order in which it gives them, and before what is in its folders.

    With `most`, raises `_TooManyError`, and `OSError` for a folder that cannot be read; without, such a folder has nothing.
    """
    top = os.path.realpath(root)
    roots = tuple(dict.fromkeys((top, str(root))))
    seen = 0
    waiting = deque([""])
    while waiting:
        folder = waiting.popleft()
        if most is not None and folder.count(os.sep) >= _DEPTH:
            raise _TooManyError(f"it has more than {_DEPTH} folders within each other")
        try:
            with os.scandir(os.path.join(top, folder)) as entries:
                found = list(entries)
        except OSError as error:
            if most is None or (folder and isinstance(error, FileNotFoundError)):
                continue
            raise
        for entry in found:
            path = os.path.join(folder, entry.name)
            if entry.name == _LEFT_OUT or entry.path in without:
                continue
            try:
                made = _entry(entry, path, roots, without)
            except OSError:
                if most is not None:
                    raise
                continue
            if made is None:
                continue
            seen += 1
            if most is not None and seen > most:
                raise _TooManyError(f"it has more than {most:,} files and folders")
            yield made
            if made.kind == "folder":
                waiting.append(path)


def _entry(entry: os.DirEntry[str], path: str, roots: tuple[str, ...], without: Sequence[str]) -> _Entry | None:
    """None for what is neither file nor folder nor link, or has gone meanwhile."""
    try:
        if entry.is_symlink():
            return _Entry(path, "link", target=_target(path, os.readlink(entry.path), roots, without))
        facts = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    kept = facts.st_size, facts.st_mtime_ns, stat.S_IMODE(facts.st_mode), facts.st_dev
    if stat.S_ISREG(facts.st_mode):
        return _Entry(path, "file", *kept)
    if not stat.S_ISDIR(facts.st_mode):
        return None
    if entry.name in _LINKED or os.path.lexists(os.path.join(entry.path, _ENVIRONMENT)):
        return _Entry(path, "link", target=entry.path)
    return _Entry(path, "folder", *kept)


def _target(path: str, text: str, roots: tuple[str, ...], without: Sequence[str]) -> str:
    """What a link says in a copy: it leads to the copy of what is in the tree, and to the original of all else."""
    folder = os.path.dirname(path)
    leads = os.path.join(roots[0], folder, text)
    inside = next((inside for root in roots if (inside := _within(leads, root)) is not None), None)
    if inside is None or any(_within(os.path.join(roots[0], inside), left) is not None for left in without):
        return leads
    return text if not os.path.isabs(text) and not _climbs_out(folder, text) else os.path.relpath(inside, folder or ".")


def _climbs_out(folder: str, text: str) -> bool:
    """Whether a relative link in a folder of a tree passes through what is above the tree."""
    depth = len(folder.split(os.sep)) if folder else 0
    for word in text.split(os.sep):
        depth += -1 if word == os.pardir else word not in ("", os.curdir)
        if depth < 0:
            return True
    return False


def _make(entries: Sequence[_Entry], source: Path, to: Path, budget: int | None, replaced: Mapping[str, str] | None = None) -> list[str]:
    """Make a new folder with these entries, or nothing; gives what was linked because it is large or cannot be read."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.mkdir()
    try:
        large = _too_large(entries, source, to, budget) if budget is not None else set()
        return _fill(entries, source, to, large, replaced or {})
    except BaseException:
        remove(to)
        raise


def _too_large(entries: Sequence[_Entry], source: Path, to: Path, budget: int) -> set[str]:
    """The files for which the budget does not suffice, if the smallest are copied first."""
    files = sorted((entry for entry in entries if entry.kind == "file" and entry.size), key=lambda entry: (entry.size, entry.path))
    shared = {file.device: file for file in files}  # one of each file system
    shares = {device: _can_share(source / file.path, to) for device, file in shared.items()}
    used = 0
    large = set()
    for file in files:
        if shares[file.device]:
            continue
        if used + file.size > budget:
            large.add(file.path)
        else:
            used += file.size
    if used > shutil.disk_usage(to).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return large


def _can_share(file: Path, to: Path) -> bool:
    probe = to / ".share"
    try:
        with file.open("rb") as source, probe.open("xb") as target:
            return _share(source.fileno(), target.fileno())
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)


def _share(source: int, target: int) -> bool:
    try:
        import fcntl

        fcntl.ioctl(target, _FICLONE, source)
    except (OSError, ImportError):
        return False
    return True


def _fill(entries: Sequence[_Entry], source: Path, to: Path, large: set[str], replaced: Mapping[str, str]) -> list[str]:
    linked = sorted(large)
    top = os.path.realpath(source)
    backwards = _is_reversed(to)
    for _, group in groupby(entries, key=lambda entry: os.path.dirname(entry.path)):
        for entry in reversed(list(group)) if backwards else group:
            path = os.path.join(to, entry.path)
            if entry.kind == "folder":
                os.mkdir(path, 0o700)
            elif entry.kind == "link":
                os.symlink(entry.target, path)
            elif entry.path in large:
                os.symlink(os.path.join(top, entry.path), path)
            elif not _copy_file(os.path.join(top, entry.path), path, entry):
                linked.append(entry.path)
    for name, text in replaced.items():
        _replace(to, name, text)
    for entry in reversed(entries):  # their time of change is that of what was made in them
        if entry.kind == "folder":
            path = os.path.join(to, entry.path)
            os.utime(path, ns=(entry.modified, entry.modified))
            os.chmod(path, entry.mode)
    facts = os.stat(top)
    os.utime(to, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    os.chmod(to, stat.S_IMODE(facts.st_mode))
    return linked


def _copy_file(source: str, to: str, entry: _Entry) -> bool:
    """Copy one file; one that cannot be read is linked instead, and False; one that has gone is left out."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        fd = os.open(source, flags)
    except FileNotFoundError:
        return True
    except PermissionError:
        os.symlink(source, to)
        return False
    with open(fd, "rb") as file, open(to, "xb") as copy:
        if not _share(file.fileno(), copy.fileno()):
            shutil.copyfileobj(file, copy, _CHUNK)
    os.utime(to, ns=(entry.modified, entry.modified))
    os.chmod(to, entry.mode)
    return True


def _replace(to: Path, name: str, text: str) -> None:
    """Give a file of a copy another text, or make it; never through a link."""
    path = os.path.normpath(os.path.join(to, name))
    real = os.path.realpath(to)
    if _within(path, str(to)) in (None, ".") or _within(os.path.realpath(os.path.dirname(path)), real) is None:
        raise _no_scratch(f"{name} is to have another text, and lies outside")
    mode = None
    if os.path.lexists(path):
        if not os.path.islink(path):
            mode = stat.S_IMODE(os.lstat(path).st_mode)
        elif os.path.exists(path):
            mode = stat.S_IMODE(os.stat(path).st_mode)
        if os.path.islink(path):
            os.unlink(path)
        else:
            os.chmod(path, 0o600)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    if mode is not None:
        os.chmod(path, mode)


def _copy(source: Path, to: Path, without: Sequence[str], replaced: Mapping[str, str]) -> Path:
    """A copy of a snapshot."""
    gone = {os.path.normpath(name) for name in without}
    try:
        # a link to what is gone leads nowhere, and not to the snapshot
        entries = [entry for entry in _entries(source, (), sys.maxsize) if gone.isdisjoint(_and_above(entry.path))]
        _make(entries, source, to, None, replaced)
    except OSError as error:
        raise _no_scratch(_why_not(error, source, to)) from error
    return to


def _and_above(path: str) -> Iterator[str]:
    while path:
        yield path
        path = os.path.dirname(path)


def _other_content(a: Path, b: Path) -> bool:
    """Whether two files of one size hold not the same; False also if one cannot be read."""
    try:
        with a.open("rb") as one, b.open("rb") as other:
            while True:
                chunk = one.read(_CHUNK)
                if chunk != other.read(_CHUNK):
                    return True
                if not chunk:
                    return False
    except OSError:
        return False
