"""The user's cache: where runs are kept unless the user says where, and where copies of working directories are made.

A script can see where its copy lies, and what it caches elsewhere may be kept by the path of the folder (compiled code, preprocessed
data). So copies of one working directory lie at one place in every audit, and such a cache grows by one entry and not by one a run.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import count
from pathlib import Path

from auditor.launch.tree import remove
from auditor.plan import Plan
from auditor.trace.files import locked, make_folder

#: Audits that are kept; older ones are removed.
KEPT_AUDITS = 20
#: How the name of a folder ends in which a copy is made.
SLOT = ".scratch"
_COPIES = "copies"


def cache_folder() -> Path:
    """Where runs are kept unless the user says where."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "repro-audit"


def new_folder(plan: Plan) -> Path:
    """A new directory in the user's cache; the oldest of too many are removed, and copies that an auditor that was killed has left."""
    root = cache_folder()
    called = plan.script[1] if plan.script[0] == "-m" else Path(plan.script[0]).stem
    script = re.sub(r"[^A-Za-z0-9_.-]+", "-", called) or "script"
    folder = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{script}"
    n = 1
    try:
        make_folder(root, exist_ok=True)
        audits = [path for path in root.iterdir() if re.match(r"\d{8}-\d{6}-", path.name)]
        audits.sort(key=lambda path: path.stat().st_mtime_ns)
        for path in audits[: max(len(audits) - KEPT_AUDITS + 1, 0)]:
            shutil.rmtree(path, ignore_errors=True)
        for left in root.glob(f"{_COPIES}/*/*{SLOT}"):
            with _held(left):
                pass
        while True:
            try:
                make_folder(folder)
                return folder
            except FileExistsError:
                n += 1
                folder = folder.with_name(f"{folder.name.rstrip('0123456789').rstrip('~')}~{n}")
    except OSError:
        return Path(tempfile.mkdtemp(prefix="repro-audit-"))


@contextmanager
def slot(runs: Path, cwd: Path) -> Iterator[Path]:
    """An empty folder for a copy of `cwd`, of the first number that is free; it is removed at the end.

    It lies among the `runs` where the user has said where these are to be kept, else where the copies of `cwd` always lie. Raises OSError.
    """
    runs = Path(os.path.realpath(runs))
    at = runs
    if runs.parent == Path(os.path.realpath(cache_folder())):
        at = runs.parent / _COPIES / blake2b(os.fsencode(os.path.realpath(cwd)), digest_size=8).hexdigest()
    make_folder(at, exist_ok=True)
    for number in count(1):
        top = at / f"{number}{SLOT}"
        with suppress(FileExistsError):
            make_folder(top)
        with _held(top) as mine:
            if mine:
                yield top
                return


@contextmanager
def _held(top: Path) -> Iterator[bool]:
    """Hold a folder of a copy, without what an auditor that was killed has left in it, and remove it at the end; whether nobody has it."""
    try:
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # it was removed just now, or is something else
        yield False
        return
    try:
        if locked(fd) is False or not _is_still(fd, top):
            yield False
            return
        for left in list(top.iterdir()):
            remove(left)
        try:
            yield not any(top.iterdir())
        finally:
            remove(top)
    finally:
        os.close(fd)


def _is_still(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except OSError:
        return False
