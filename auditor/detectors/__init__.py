"""Detectors: what rules find that a condition on one happening cannot say, because order matters, or more than one run.

A file here is one detector: a `Detector` constant. It reads runs and yields hits, and knows nothing of rules, levels or messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Hit:
    """One fault, where it is, and what a message may say of it."""

    file: str | None
    line: int | None
    values: dict[str, object] = field(default_factory=dict)
    """What the message's placeholders stand for; also the finding's evidence."""
    count: int = 1
    """How often it happened, where it happened more than once."""
    steps: int = 0
    """In how many steps it happened; 0 where that is not told."""
    lanes: tuple[str, ...] = ()
    """The lanes in which it happened, where that is known; of what two of them did alike at one place, one finding is made."""


@dataclass(frozen=True)
class Detector:
    """One way to look at runs.

    `find(runs, params)` gets the controls, the first of which is the one to look at, and an instance of `params`, a frozen dataclass whose
    fields are the settings that a rule file may give. `values` are the names that its hits always have.
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
    """Names in a sentence: all of them if they are few, `all 12 tensors` if they are all that there are."""
    if len(names) == total and total > 3:
        return f"all {total} {what}s"
    return listed(list(names) if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"])


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: `a, b and c`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
