"""What is said of findings: where they are, in how many steps, and what a forecast is worth."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.report.words.text import counted, listed, place
from auditor.results import Finding

#: Most places that are named for one message.
_PLACES = 3
#: The title of what would be on a GPU, and what it is worth.
FORECAST_TITLE, FORECAST_BASIS = "CUDA forecast", "from PyTorch's documentation of these ops; not observed"


def places(findings: Sequence[Finding]) -> str:
    """Where findings are, a few of them: `train.py:31, train.py:40 and 5 more places`."""
    where = list(dict.fromkeys(place(finding.file, finding.line) for finding in findings))
    few, more = where[:_PLACES], len(where) - len(where[:_PLACES])
    return listed([*few, counted(more, "more place")] if more else few)


def in_steps(findings: Sequence[Finding]) -> str:
    """In how many steps findings were seen, as a clause; empty for what was seen in one, or not in steps."""
    steps = max((finding.steps for finding in findings), default=0)
    return f" (in {counted(steps, 'step')})" if steps > 1 else ""


def other_places(others: Sequence[Finding]) -> str:
    """Where else a note was found: a few places, and how many more."""
    where = [place(other.file, other.line) for other in others if other.file]
    few, more = where[:4], len(others) - len(where[:4])
    return f"also in {listed([*few, counted(more, 'more place')] if more else few)}" if few else f"and {counted(more, 'more place')}"
