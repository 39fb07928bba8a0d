"""What is said of runs: their names, how they ended, where they are kept, and what their environments do not share."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterable

from auditor.report.words.text import counted, listed, path, plain
from auditor.results import Audit, RunOutcome

#: Length of a run's name without its number from which on it is not said twice.
_STEM = len("control-")


def run_names(ids: Iterable[str]) -> str:
    """`pin-1 and pin-2`; three and more in a row are `pin-1 to pin-9`, and what is long is not said twice: `pin-hash-seed-1 and -2`."""
    shown: list[list[str]] = []
    for name in ids:
        stem, number = _numbered(name)
        if shown and number > 0 and shown[-1][-1] == f"{stem}{number - 1}":
            shown[-1].append(name)
        else:
            shown.append([name])
    if len(shown) == 1 and len(shown[0]) == 2:
        return f"{plain(shown[0][0])} and {_short(shown[0][1])}"
    return listed(part for row in shown for part in ([f"{plain(row[0])} to {_short(row[-1])}"] if len(row) > 2 else row))


def _numbered(name: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)(\d{1,9})", name, re.DOTALL)
    return (found[1], int(found[2])) if found else (name, -1)


def _short(name: str) -> str:
    """The name of a run behind another one in a row with it."""
    stem, number = _numbered(name)
    return f"-{number}" if stem.endswith("-") and len(stem) > _STEM else plain(name)


def runs_title(audit: Audit) -> str:
    """`4 runs of train.py --lr 0.1`."""
    script = plain(shlex.join(audit.script))
    return f"{counted(len(audit.runs), 'run')}{f' of {script}' if script else ''}"


def ending(run: RunOutcome) -> str:
    """How a run ended: its exit status, the signal that ended it, or why the auditor did."""
    if run.stopped == "steps":
        return f"stopped after {counted(run.steps, 'step')}"
    if run.stopped:
        return {
            "timeout": "ended by --timeout",
            "stalled": "ended without progress",
            "interrupted": "interrupted",
            "look": "ended after value capture",
        }.get(run.stopped, plain(run.stopped))
    if run.exit is None:
        return "exit unknown"
    if run.exit < 0:
        try:
            return f"killed by {signal.Signals(-run.exit).name}"
        except ValueError:
            return f"killed by signal {-run.exit}"
    return f"exit {run.exit}"


def kept_together(audit: Audit) -> str | None:
    """The directory that has all runs under their own ids; None if there is no such directory."""
    folders = {run.path.removesuffix(f"/{run.id}") for run in audit.runs}
    together = len(folders) == 1 and all(run.path.endswith(f"/{run.id}") for run in audit.runs)
    return path(folders.pop()) if together else None


def environment_title(audit: Audit) -> str:
    """How much of the two environments is not the same."""
    whose = listed(run.id for run in audit.runs[:2])
    return f"The environments of {whose} differ in {counted(len(audit.environment), 'fact')}"
