"""Trees of files: what one contains, and how to copy it.

Never writes to the tree that is copied, hard-links a file in it, or follows a link out of a copy.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, groupby
from pathlib import Path
from typing import NamedTuple

from auditor.errors import LaunchError
from auditor.trace.files import make_folder

#: Most bytes to copy where the file system cannot share blocks between two files.
BUDGET = 256 << 20
#: Most files, folders and links that a working directory may have to be copied.
ENTRIES = 20_000
#: Large folders to which no run is expected to write; they are linked. A Python environment is linked too, whatever its name.
_LINKED = (".git", ".hg", "node_modules")
_ENVIRONMENT = "pyvenv.cfg"
#: Python rebuilds its own cache, so it is not copied.
_CACHE_NAME = "__pycache__"
#: FICLONE of ioctl_ficlone(2): the second file shares the blocks of the first until either is written.
_FICLONE = 0x40049409
_CHUNK = 1 << 20
#: Deepest nesting of folders; removing a tree recurses into each.
_DEPTH = 200
#: How often to try to remove a copy while processes that outlived their run still write to it.
_REMOVALS = 5


class Entry(NamedTuple):
    """A file, folder or link of a tree; `target` is where a link points in a copy of the tree."""

    path: str
    kind: str
    size: int = 0
    modified: int = 0
    mode: int = 0
    device: int = 0
    target: str = ""


class TooManyError(Exception):
    """A tree has more entries than the limit."""


def within(path: str, root: str) -> str | None:
    """A path relative to `root`; None if it lies outside."""
    inside = os.path.relpath(path, root) if os.path.isabs(path) else os.pardir
    return None if inside == os.pardir or inside.startswith(os.pardir + os.sep) else inside


def is_reversed(folder: Path | str) -> bool:
    """Whether a directory lists its names in the reverse of their creation order, as a tmpfs does."""
    probe = os.path.join(folder, ".order")
    os.mkdir(probe)
    try:
        for name in "abc":
            os.mkdir(os.path.join(probe, name))
        return os.listdir(probe) == ["c", "b", "a"]
    finally:
        shutil.rmtree(probe)


def entries_of(root: Path, without: Sequence[str], most: int | None) -> Iterator[Entry]:
    """All entries of a tree: those of each folder in the order of the file system, before those of its subfolders.

    With `most`, raises `TooManyError`, and `OSError` for a folder that cannot be read; without `most`, such a folder counts as empty.
    """
    top = os.path.realpath(root)
    roots = tuple(dict.fromkeys((top, str(root))))
    seen = 0
    waiting = deque([""])
    while waiting:
        folder = waiting.popleft()
        if most is not None and folder.count(os.sep) >= _DEPTH:
            raise TooManyError(f"it has folders nested more than {_DEPTH} deep")
        try:
            with os.scandir(os.path.join(top, folder)) as entries:
                found = list(entries)
        except OSError as error:
            if most is None or (folder and isinstance(error, FileNotFoundError)):
                continue
            raise
        for entry in found:
            path = os.path.join(folder, entry.name)
            if entry.name == _CACHE_NAME or entry.path in without:
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
                raise TooManyError(f"it has more than {most:,} files and folders")
            yield made
            if made.kind == "folder":
                waiting.append(path)


def _entry(entry: os.DirEntry[str], path: str, roots: tuple[str, ...], without: Sequence[str]) -> Entry | None:
    """None for what is not a file, folder or link, or has been removed meanwhile."""
    try:
        if entry.is_symlink():
            return Entry(path, "link", target=_target(path, os.readlink(entry.path), roots, without))
        facts = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    kept = facts.st_size, facts.st_mtime_ns, stat.S_IMODE(facts.st_mode), facts.st_dev
    if stat.S_ISREG(facts.st_mode):
        return Entry(path, "file", *kept)
    if not stat.S_ISDIR(facts.st_mode):
        return None
    if entry.name in _LINKED or os.path.lexists(os.path.join(entry.path, _ENVIRONMENT)):
        return Entry(path, "link", target=entry.path)
    return Entry(path, "folder", *kept)


def _target(path: str, text: str, roots: tuple[str, ...], without: Sequence[str]) -> str:
    """Where a link points in a copy: to the copy of what is inside the tree, to the original of everything else."""
    folder = os.path.dirname(path)
    leads = os.path.join(roots[0], folder, text)
    inside = next((inside for root in roots if (inside := within(leads, root)) is not None), None)
    if inside is None or any(within(os.path.join(roots[0], inside), left) is not None for left in without):
        return leads
    return text if not os.path.isabs(text) and not _climbs_out(folder, text) else os.path.relpath(inside, folder or ".")


def _climbs_out(folder: str, text: str) -> bool:
    """Whether a relative link in a folder of a tree passes through a folder above the tree."""
    depth = len(folder.split(os.sep)) if folder else 0
    for word in text.split(os.sep):
        depth += -1 if word == os.pardir else word not in ("", os.curdir)
        if depth < 0:
            return True
    return False


def make_tree(entries: Sequence[Entry], source: Path, to: Path, budget: int | None, replaced: Mapping[str, str] | None = None) -> list[str]:
    """Make a new folder with these entries, or nothing; returns what was linked because it is large or unreadable."""
    make_folder(to.parent, exist_ok=True)
    to.mkdir()
    try:
        large = _too_large(entries, source, to, budget) if budget is not None else set()
        return _fill(entries, source, to, large, replaced or {})
    except BaseException:
        remove(to)
        raise


def _too_large(entries: Sequence[Entry], source: Path, to: Path, budget: int) -> set[str]:
    """The files that exceed the budget when the smallest are copied first."""
    files = sorted((entry for entry in entries if entry.kind == "file" and entry.size), key=lambda entry: (entry.size, entry.path))
    shared = {file.device: file for file in files}  # one per file system
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


def _fill(entries: Sequence[Entry], source: Path, to: Path, large: set[str], replaced: Mapping[str, str]) -> list[str]:
    linked = sorted(large)
    top = os.path.realpath(source)
    backwards = is_reversed(to)
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
    for entry in reversed(entries):  # making entries in a folder changes its modification time
        if entry.kind == "folder":
            path = os.path.join(to, entry.path)
            os.utime(path, ns=(entry.modified, entry.modified))
            os.chmod(path, entry.mode)
    facts = os.stat(top)
    os.utime(to, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    os.chmod(to, stat.S_IMODE(facts.st_mode))
    return linked


def _copy_file(source: str, to: str, entry: Entry) -> bool:
    """Copy one file. An unreadable file is linked instead and gives False; a file that was removed meanwhile is left out."""
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
    """Give a file of a copy another text, or create it; never write through a link."""
    path = os.path.normpath(os.path.join(to, name))
    real = os.path.realpath(to)
    if within(path, str(to)) in (None, ".") or within(os.path.realpath(os.path.dirname(path)), real) is None:
        raise copy_error(f"{name} is to get another text, but lies outside the working directory")
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


def copy_tree(source: Path, to: Path, without: Sequence[str], replaced: Mapping[str, str]) -> Path:
    """Copy a snapshot."""
    gone = {os.path.normpath(name) for name in without}
    try:
        # a link to a removed file must dangle, not lead into the snapshot
        entries = [entry for entry in entries_of(source, (), sys.maxsize) if gone.isdisjoint(with_parents(entry.path))]
        make_tree(entries, source, to, None, replaced)
    except OSError as error:
        raise copy_error(copy_failure(error, source, to)) from error
    return to


def other_content(a: Path, b: Path) -> bool:
    """Whether two files of the same size have different content; False if one cannot be read."""
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


def remove(tree: Path) -> None:
    """Remove a copy as far as possible; targets of its links are not touched."""
    if os.path.islink(tree):
        os.unlink(tree)
    for k in range(_REMOVALS):
        _flatten(tree, f".{k}-")  # a run can nest folders deeper than `rmtree` can recurse
        shutil.rmtree(tree, ignore_errors=True)
        if not os.path.lexists(tree):
            return
        time.sleep(0.1 * (k + 1))


def _flatten(tree: Path, prefix: str) -> None:
    """Move all folders of a tree to its top, each with all permissions."""
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
                os.chmod(path, 0o700)  # a folder without permissions cannot be moved
                os.rename(path, up)
            except OSError:
                continue
            waiting.append(up)


def copy_error(why: str) -> LaunchError:
    """The error for a working directory that cannot be copied."""
    return LaunchError("no-scratch", f"the working directory cannot be copied for the run: {why}")


def copy_failure(error: Exception, cwd: Path, into: Path) -> str:
    """Why copying the tree `cwd` to `into` failed, in half a sentence."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"there is no space left for it in {into.parent}"
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    what = within(path, os.path.realpath(cwd)) or within(path, str(cwd)) or path or str(into)
    return f"{what if what != '.' else cwd}: {error.strerror or error}"[:300]


def with_parents(path: str) -> Iterator[str]:
    """A path and all folders that contain it."""
    while path:
        yield path
        path = os.path.dirname(path)
