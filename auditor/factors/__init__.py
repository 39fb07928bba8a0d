"""Sources of variation, one a file: each can be held still (pinned) or made to differ (varied), and is left free otherwise.

One that is free can be watched: then it does what it would do anyway, and the trace has the lines at which it entered. Those of one that is
pinned or varied are in the trace as well.

A factor works from outside, on the plan of a run, or within the user's process, by a function that the recorder calls when it is armed;
then it works in child processes and workers too. What a factor's file imports at its top is imported there, before the script runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from auditor.interruptions import interrupts

if TYPE_CHECKING:
    from auditor.plan import Plan


class Signs(NamedTuple):
    """What points to a factor beside its streams and its calls, and tells the line where it entered."""

    lanes: Mapping[str, tuple[str, ...]] = {}
    """Roles of lanes (`worker`, `thread`) in which it is the first to be suspected, and of which kinds of a difference; none: of any."""
    streams_of_workers: bool = False
    """Whether it holds still what DataLoader workers draw from."""
    shared_streams: bool = False
    """Whether it is why several threads draw from one stream in another order."""
    files: tuple[str, ...] = ()
    """What is not the same of a file, or of a folder that was listed, because of it; see `results.WhatOfFile`."""
    orders: tuple[str, ...] = ()
    """What in the source gives another order because of it: `listing`, or what `source.unordered` tells of."""
    unwritten: bool = False
    """Whether memory that nobody wrote holds something else because of it."""


class Factor(NamedTuple):
    """One source of variation. A named tuple, because the user's process has no need of what a dataclass imports."""

    name: str
    """Kebab-case; the file's with underscores."""
    because: str
    """Why two runs differ if it is to blame, in half a sentence behind "because"."""
    why: str
    """What varies and where it comes from, in one sentence that a user can act on."""
    remedy: str
    """What to change in the script if it is to blame."""
    pin: Callable[[Plan], Plan] | None = None
    """The plan of a run in which it is held still."""
    vary: Callable[[Plan], Plan] | None = None
    """The plan of a run in which it is another one than usual; None where two runs differ by themselves."""
    inside: Callable[[Any, str], None] | None = None
    """What is done in the user's process, before the script imports anything, given a `record.process.Process` and `pin` or `vary`.

    If it `watches`, it is given `watch` too, and in all three cases tells where the factor enters (`record.entering`)."""
    unavailable: Callable[[], str | None] = lambda: None
    """Why it can be neither pinned nor varied here; None if it can."""
    numerical: bool = False
    """Whether it changes how numbers are computed, and not which."""
    entropy: bool = False
    """Whether it is another one in every run anyway, so that varying it would show no more than two runs do."""
    along: tuple[str, ...] = ()
    """Factors that are held still along with it."""
    watches: bool = False
    """Whether it can tell at which lines of the user's it enters; False where that is in the trace of every run, as seeds are."""
    each_call: bool = False
    """Whether it then tells of each call of its functions: if it told of none, there was none."""
    order: int = 100
    """Where nothing else is known, factors are suspected in this order: the commonest first, what changes results last."""
    kinds: Mapping[str, int] = {}
    """Kinds of a difference that point to it where nothing else is known, and which suspect it then is, from 0."""
    streams: tuple[str, ...] = ()
    """What the names of the random streams begin with that it holds still; the longest that fits counts, and nothing fits all."""
    calls: tuple[str, ...] = ()
    """Functions that give another answer in each run because of it, as the source calls them."""
    signs: Signs = Signs()
    """What else points to it."""
    between_runs: bool = False
    """Whether it is what one run leaves for the next, at its end: the first of several runs is then always another one than the rest."""
    refutes: str = ""
    """The detector whose hits do no harm where the results are the same although it is varied."""
    fixes: tuple[str, ...] = ()
    """Changes of a few lines that may cure it, the likeliest first; see `mend.CHANGES`."""
    intermittent: bool = False
    """Whether it may make no difference between two runs although nothing holds it still."""
    changes: str = "another one changes"
    """What varying it does to the results: half a clause before "results"."""

    @property
    def common(self) -> bool:
        """Whether two runs on one machine have it in common anyway, and holding it still changes results."""
        return self.numerical and not self.entropy


def needs_cuda() -> str | None:
    """For `unavailable`. Torch is asked only where there is a driver: importing it takes a second or two, which every audit would pay."""
    if not _has_driver():
        return "there is no CUDA device here"
    import torch

    return None if torch.cuda.is_available() else "there is no CUDA device here"


def _has_driver() -> bool:
    """Whether torch could find a device: NVIDIA's library, or what AMD's kernel driver makes."""
    import ctypes
    import os

    if os.path.exists("/dev/kfd"):  # AMD's
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError as error:
        if interrupts(error):
            raise
        return False
    return True


def plan_with(plan: Plan, factors: Mapping[str, Factor], pinned: Sequence[str], varied: Sequence[str], watched: Sequence[str] = ()) -> Plan:
    """The plan with these factors pinned, varied and, as far as they can be, watched; raises KeyError for a name that is none."""
    for name in pinned:
        change = factors[name].pin
        plan = change(plan) if change is not None else plan
    for name in varied:
        change = factors[name].vary
        plan = change(plan) if change is not None else plan
    free = [name for name in watched if factors[name].watches and name not in pinned and name not in varied]
    chosen = ((pinned, "pin"), (varied, "vary"), (free, "watch"))
    within = [(name, how) for names, how in chosen for name in names if factors[name].inside is not None]
    return plan.with_factors(tuple(pinned), tuple(varied), tuple(within))
