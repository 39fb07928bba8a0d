"""Digests of the files that a run wrote, taken when it has ended: two runs that agree save equal files."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from auditor.plan import Plan
from auditor.trace.reader import Trace

#: Most files and bytes of one run that are read; the rest is listed as written, without a digest.
_FILES, _BYTES = 500, 4 << 30
_BLOCK = 1 << 20


def output_digests(run: Trace, plan: Plan) -> dict[str, str | None]:
    """Path -> digest of each file that the run wrote and that still exists; None if it was not read."""
    found: dict[str, str | None] = {}
    left = _BYTES
    paths = {event["path"] for lane in run.lanes.values() for event in lane.events_of("file") if event.get("op") == "write"}
    for path in sorted(paths):
        try:
            fd = os.open(_current_path(path, plan), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue  # removed again, like a temporary file
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


def _current_path(path: str, plan: Plan) -> Path:
    """Where a file lies if the run was made in a copy of the user's folder."""
    for copy, home in plan.copy.copies:
        if path.startswith(home + os.sep):
            return Path(copy + path[len(home) :])
    return Path(plan.cwd, path)


def _digest(fd: int) -> str:
    running = hashlib.blake2b(digest_size=16)
    while block := os.read(fd, _BLOCK):
        running.update(block)
    return running.hexdigest()
