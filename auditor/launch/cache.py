"""The user's cache: the default place for runs, and the place for copies of working directories.

A script can see the path of its copy, and what it caches elsewhere may be keyed by that path (compiled code, preprocessed data). So copies
of one working directory have the same path in every audit, and such a cache grows by one entry, not by one per run.
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

#: Number of audits that are kept; older ones are removed.
KEPT_AUDITS = 20
#: Suffix of a folder in which a copy is made.
SLOT = ".scratch"
_COPIES = "copies"


def cache_folder() -> Path:
    """The folder in which runs are kept by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "repro-audit"


def new_folder(plan: Plan) -> Path:
    """Make a new directory in the user's cache; remove the oldest audits above the limit, and copies left by a killed auditor."""
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
    """An empty folder for a copy of `cwd`, with the lowest free number; it is removed at the end.

    It lies among the `runs` where the user has chosen their folder, else where copies of `cwd` always lie. Raises OSError.
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
    """Lock the folder of a copy, clear what a killed auditor left in it, and remove it at the end; yields whether it is ours and empty."""
    try:
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # just removed, or not a folder
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
