"""Detectors: what a rule cannot say as a condition on one event, because order matters or several runs are needed.

Each file holds one detector, a `Detector` constant. It reads runs and yields hits. It knows nothing of rules, levels or messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Hit:
    """One fault, where it is, and the values for its message."""

    file: str | None
    line: int | None
    values: dict[str, object] = field(default_factory=dict)
    """Values of the placeholders in the message; also the evidence of the finding."""
    count: int = 1
    """How often it happened."""
    steps: int = 0
    """In how many steps it happened; 0: unknown."""
    lanes: tuple[str, ...] = ()
    """The lanes in which it happened, if known; equal hits of two lanes at one line become one finding."""


@dataclass(frozen=True)
class Detector:
    """One way to search runs.

    `find(runs, params)` gets the controls, of which the first is searched, and an instance of `params`, a frozen dataclass whose fields
    are the settings of a rule file. `values` are the names that all its hits have.
    """

    name: str
    find: Callable[[Sequence[Tables], Any], Iterator[Hit]]
    params: type
    values: frozenset[str]
    asks_where_not_finite: bool = False
    """Whether it says more if a rerun looked at every result for the first that is not finite."""
    zeroes: bool = False
    """Whether zeroing the gradients of the tensors that the evidence names as `subject` may cure what it finds."""


def named(names: Sequence[str], total: int, what: str) -> str:
    """Names in a sentence: all of them if there are few; `all 12 tensors` if there are no others."""
    if len(names) == total and total > 3:
        return f"all {total} {what}s"
    return listed(list(names) if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"])


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: `a, b and c`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
