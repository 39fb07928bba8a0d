"""What the files that a run wrote hold when it has ended: two runs that save the same have saved equal files."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from auditor.plan import Plan
from auditor.trace.reader import Trace

#: Files and bytes of one run that are read; what is beyond is known to have been written, and no more.
_FILES, _BYTES = 500, 4 << 30
_BLOCK = 1 << 20


def contents_written(run: Trace, plan: Plan) -> dict[str, str | None]:
    """Path -> digest of each file that the run wrote and that is still there; None: it was not read."""
    found: dict[str, str | None] = {}
    left = _BYTES
    paths = {event["path"] for lane in run.lanes.values() for event in lane.events_of("file") if event.get("op") == "write"}
    for path in sorted(paths):
        try:
            fd = os.open(_here(path, plan), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue  # removed again, as temporary files are
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                continue
            left -= facts.st_size
            found[path] = _digest(fd) if left >= 0 and len(found) < _FILES else None
        except OSError:
            found[path] = None
        finally:
            os.close(fd)
    return found


def _here(path: str, plan: Plan) -> Path:
    """Where a file lies in a run that was made in a copy of the user's folder."""
    for copy, home in plan.copies:
        if path.startswith(home + os.sep):
            return Path(copy + path[len(home) :])
    return Path(plan.cwd, path)


def _digest(fd: int) -> str:
    running = hashlib.blake2b(digest_size=16)
    while block := os.read(fd, _BLOCK):
        running.update(block)
    return running.hexdigest()
