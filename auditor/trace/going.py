"""Whether a run is still going on: whether who launched it, or a process that records into it, is still there.

A process is known by its number and by when it began, which no later process of the same number shares. What cannot be seen: a run that
another machine, or another container with process numbers of its own, records into a folder that both can see.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.trace.facts import PROCESS
from auditor.trace.files import read
from auditor.trace.shapes import checked, load

#: Seconds by which the clock that a process was noted by may be behind the kernel's, where it did not note when it began.
_SLACK = 2.0


def boot() -> str | None:
    """Which start of which machine this is; None where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def stat_of(pid: int | str) -> list[bytes]:
    """The fields of a process behind its name, which stands in parentheses and may hold anything; the first is its state.

    Raises OSError where there is no such process, or no /proc.
    """
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def began(pid: int | str) -> int | None:
    """When a process began, in ticks since the machine was started; None if there is none that still runs, or the system does not say."""
    try:
        fields = stat_of(pid)
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def is_there(facts: Mapping[str, Any]) -> bool:
    """Whether the process of these facts (`pid`, and `began` or `started`) still runs."""
    pid = facts.get("pid")
    if not isinstance(pid, int) or not 0 < pid < 1 << 31:
        return False
    now = began(pid)
    if now is None:
        return not Path("/proc/self/stat").exists() and _answers(pid)
    if facts.get("began") is not None:
        return bool(now == facts["began"])
    started = facts.get("started")
    try:
        clock = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):
        return True
    return started is None or clock + now / os.sysconf("SC_CLK_TCK") <= started + _SLACK


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def is_going(run: Path, meta: Mapping[str, Any]) -> bool:
    """Whether the run in this folder is still going on, as far as can be seen from here."""
    launcher = meta.get("launcher") or {}
    if launcher.get("boot") is not None and launcher["boot"] != boot():
        return False
    if meta.get("exit") is None and launcher and is_there(launcher):
        return True
    return any(map(is_there, _processes(run / "spool")))


def _processes(spool: Path) -> list[dict[str, Any]]:
    found = []
    for folder in spool.iterdir() if spool.is_dir() and not spool.is_symlink() else ():
        try:
            found.append(checked(load(read(folder / "process.json")), PROCESS))
        except (OSError, ValueError):
            continue
    return found
