"""What is said of a patch, and its lines."""

from __future__ import annotations

from auditor.report.words.runs import run_names
from auditor.report.words.text import counted, path, verbatim
from auditor.results import Patch


def patched(patch: Patch, named: bool = False) -> str:
    """What was seen of a patch, and what has become of it; `named`: in which runs."""
    seen = f"run {'twice' if len(patch.runs) == 2 else counted(len(patch.runs), 'time')}" if patch.runs else ""
    which = f" ({run_names(patch.runs)})" if named else ""
    agree = f"{seen}, and the runs agree{which}" if seen else "the runs that tried it are not in this audit"
    if not patch.applied:
        return f"{agree}; --fix --apply applies it to {path(patch.file)}"
    return f"{agree}; applied to {path(patch.file)}" + (f"; the original is kept in {path(patch.backup)}" if patch.backup else "")


def diff_lines(patch: Patch, most: int) -> list[str]:
    """The lines of a patch, as they are but for what cannot be printed; of a long one the first, and how many more there are."""
    lines = [line.removesuffix("\r") for line in patch.diff.removesuffix("\n").split("\n")]
    shown = [verbatim(line) for line in lines[:most]]
    return [*shown, f"... and {counted(len(lines) - most, 'more line')}: --json has all of them"] if len(lines) > most else shown
