"""The lines around those that an audit speaks of, read while the script is there: a report is given an audit and nothing else."""

from __future__ import annotations

from pathlib import Path

from auditor.redaction import redacted_code
from auditor.results import Audit, Cause, Divergence, Failure, Finding

#: Lines before and behind the one that is shown, and most characters of one.
_AROUND, _LONGEST = 2, 1_000


def attach_frames(audit: Audit, folder: str | Path) -> None:
    """Give divergences, causes and findings the lines around theirs, unless the file has changed since it ran."""
    texts: dict[str, list[str]] = {}
    shown: list[Divergence | Cause | Finding | Failure] = [*audit.causes, *audit.findings, *audit.side]
    shown += [one for one in (audit.divergence, audit.failure) if one is not None]
    for one in shown:
        if one.file is None or one.line is None or not one.code or getattr(one, "forecast", False):
            continue
        if one.file not in texts:
            texts[one.file] = _lines(Path(folder, one.file))
        around = lines_around(texts[one.file], one.line)
        if any(number == one.line and text.strip() == one.code.strip() for number, text in around):
            one.around = around


def lines_around(lines: list[str], line: int) -> list[tuple[int, str]]:
    """Some lines before and behind one of them, with their numbers and without credentials."""
    first = max(line - _AROUND, 1)
    return [(number, redacted_code(text[:_LONGEST].rstrip("\n"))) for number, text in enumerate(lines[first - 1 : line + _AROUND], first)]


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readlines()
    except (OSError, ValueError):
        return []
