"""The processes of a run as `/proc` shows them: which exist, their CPU time, the ports that connect them, and how to end them.

Everything is read from outside the script, so that work done in C++ and other languages is seen as well.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from auditor.trace.going import stat_of

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
#: States of /proc/net/tcp, in hexadecimal.
_ESTABLISHED, _LISTEN = "01", "0A"
#: Seconds between asking processes to end and killing them.
_GRACE = 3.0
#: CPU seconds that a waiting process may use at any time, and seconds without a check after which the wait is measured anew.
_WAITING, _UNSEEN = 0.1, 10.0


def descendants(pid: int) -> dict[int, float]:
    """A process and all its descendants whose parents still exist, each with its CPU seconds."""
    found: dict[int, float] = {}
    stack = [pid]
    while stack:
        one = stack.pop()
        if one in found:
            continue
        with suppress(OSError, ValueError, IndexError):
            fields = stat_of(one)
            found[one] = (int(fields[11]) + int(fields[12])) / _TICKS
            stack.extend(_children(one))
    return found


def _children(pid: int) -> list[int]:
    tasks = _PROC / str(pid) / "task"
    found: list[int] = []
    for thread in _names(tasks):
        with suppress(OSError):
            found += map(int, (tasks / thread / "children").read_text().split())
    return found


def started_as_python(pid: int) -> bool:
    """Whether a process was started as Python; a forked process has the command line of its parent, so it does not count."""
    with suppress(OSError, ValueError, IndexError):
        folder = _PROC / str(pid)
        if (folder / "exe").readlink().name.startswith(("python", "pypy")):
            return (folder / "cmdline").read_bytes() != (_PROC / str(parent_of(pid)) / "cmdline").read_bytes()
    return False


def parent_of(pid: int) -> int:
    """The parent of a process; 0 if the process has ended."""
    with suppress(OSError, ValueError, IndexError):
        return int(stat_of(pid)[1])
    return 0


class Stall:
    """Detects a run that no longer makes progress.

    Progress is anything recorded or printed, a process that starts or ends, and CPU time: waiting uses less than a hundredth of the elapsed
    time. Time in which nobody checked, because the machine or the auditor was suspended, does not count.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._signs: object = None
        self._computed = 0.0
        self._since = self._looked = time.monotonic()

    def seen(self, now: float, signs: object, computed: float) -> bool:
        """Whether there was no progress for longer than the limit; `signs` change when there was any."""
        waiting = now - self._since
        if signs != self._signs or computed - self._computed > _WAITING + waiting / 100 or now - self._looked > _UNSEEN:
            self._signs, self._computed, self._since = signs, computed, now
        self._looked = now
        return now - self._since > self.patience


def endpoints(pids: list[int]) -> set[str]:
    """The TCP ports on which processes listen, and the addresses to which they are connected."""
    sockets = {link[8:-1] for pid in pids for link in _links(_PROC / str(pid) / "fd") if link.startswith("socket:[")}
    found: set[str] = set()
    if not sockets:
        return found
    listening: set[str] = set()
    rows = [row for name in ("tcp", "tcp6") for pid in pids[:1] for row in _rows(_PROC / str(pid) / "net" / name)]
    for local, _, state, inode in rows:
        if state == _LISTEN and inode in sockets:
            listening.add(local.rpartition(":")[2])
    for local, remote, state, inode in rows:
        # Of a connection, the end on which another process listens; the port of the other end is new each time.
        if state == _ESTABLISHED and inode in sockets and local.rpartition(":")[2] not in listening:
            found.add(f"connected {int(remote.rpartition(':')[2], 16)}")
    return found | {f"listens {int(port, 16)}" for port in listening}


def end(pids: list[int]) -> None:
    """Ask processes to end, wait a little, and kill those that remain."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, how)
        deadline = time.monotonic() + _GRACE
        while time.monotonic() < deadline and any(map(_lives, pids)):
            time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        return stat_of(pid)[:1] != [b"Z"]
    except OSError:
        return False


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []


def _links(folder: Path) -> list[str]:
    found = []
    for name in _names(folder):
        with suppress(OSError):
            found.append(str((folder / name).readlink()))
    return found


def _rows(table: Path) -> list[tuple[str, str, str, str]]:
    try:
        lines = table.read_text().splitlines()[1:]
    except (OSError, ValueError):
        return []
    return [(words[1], words[2], words[3], words[9]) for words in map(str.split, lines) if len(words) > 9]
