"""Factors, one per file: sources of variation that can be pinned (the same in every run), varied, or left free.

A free factor can be watched: it behaves as usual, and the trace has the lines where it introduces a difference. For a pinned or varied
factor the trace has them too.

A factor works from outside, on the plan of a run, or inside the user's process, by a function that the recorder calls when it is armed;
that also works in child processes and workers. What a factor's file imports at its top is imported there, before the script runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from auditor.interruptions import interrupts

if TYPE_CHECKING:
    from auditor.plan import Plan


class Signs(NamedTuple):
    """What points to a factor besides its streams and calls, and gives the line where it was introduced."""

    lanes: Mapping[str, tuple[str, ...]] = {}
    """Roles of lanes (`worker`, `thread`) in which it is suspected first, and for which kinds of divergence; none: for all."""
    streams_of_workers: bool = False
    """Whether it pins what DataLoader workers draw from."""
    shared_streams: bool = False
    """Whether it makes several threads draw from one stream in a different order."""
    files: tuple[str, ...] = ()
    """What differs of a file, or of a listed folder, because of it; see `results.WhatOfFile`."""
    orders: tuple[str, ...] = ()
    """What in the source has a different order because of it: `listing`, or what `source.unordered` finds."""
    unwritten: bool = False
    """Whether uninitialized memory holds different values because of it."""


class Factor(NamedTuple):
    """One source of variation. A named tuple, because the user's process must not import what a dataclass needs."""

    name: str
    """Kebab-case; the file has underscores."""
    because: str
    """Why two runs differ if it is the cause, as a clause after "because"."""
    why: str
    """What varies and why, in one sentence that a user can act on."""
    remedy: str
    """What to change in the script if it is the cause."""
    pin: Callable[[Plan], Plan] | None = None
    """The plan of a run in which it is pinned."""
    vary: Callable[[Plan], Plan] | None = None
    """The plan of a run in which it is varied; None if two runs differ in it anyway."""
    inside: Callable[[Any, str], None] | None = None
    """Called in the user's process before the script imports anything, with a `record.process.Process` and `pin` or `vary`.

    If it `watches`, it is also called with `watch`, and in all three cases records where the factor is read (`record.source_tracker`)."""
    unavailable: Callable[[], str | None] = lambda: None
    """Why it can be neither pinned nor varied on this machine; None if it can."""
    numerical: bool = False
    """Whether it changes rounding only, and not which numbers are computed."""
    entropy: bool = False
    """Whether it differs in every run anyway, so that varying it shows no more than two runs do."""
    also_pins: tuple[str, ...] = ()
    """Factors that are pinned together with it."""
    watches: bool = False
    """Whether it can record the lines of the user that read it; False if the trace of every run has them, as for seeds."""
    each_call: bool = False
    """Whether it then records each call of its functions: if none is recorded, there was none."""
    order: int = 100
    """The order in which factors are suspected if nothing else is known: the commonest first, those that change results last."""
    kinds: Mapping[str, int] = {}
    """Kinds of divergence that point to it if nothing else is known, and its place among the suspects, from 0."""
    streams: tuple[str, ...] = ()
    """Prefixes of the names of the random streams that it pins; the longest that fits counts, and nothing fits all."""
    calls: tuple[str, ...] = ()
    """Functions whose result differs between runs because of it, as the source calls them."""
    signs: Signs = Signs()
    """What else points to it."""
    between_runs: bool = False
    """Whether it is what one run leaves for the next: then the first of several runs always differs from the rest."""
    refutes: str = ""
    """The detector whose hits do no harm if the results are the same although this factor is varied."""
    fixes: tuple[str, ...] = ()
    """Changes of a few lines that may remove it, the likeliest first; see `mend.CHANGES`."""
    intermittent: bool = False
    """Whether two runs may agree although it is free."""
    changes: str = "varying it changes"
    """What varying it does: subject and verb before "results"."""

    @property
    def common(self) -> bool:
        """Whether two runs on one machine share its value anyway, and pinning it changes results."""
        return self.numerical and not self.entropy


def needs_cuda() -> str | None:
    """For `unavailable`. Torch is imported only if there is a driver: the import takes a second or two, which every audit would pay."""
    if not _has_driver():
        return "there is no CUDA device here"
    import torch

    return None if torch.cuda.is_available() else "there is no CUDA device here"


def _has_driver() -> bool:
    """Whether torch could find a device: NVIDIA's library, or the device file of AMD's kernel driver."""
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
    """The plan with these factors pinned, varied and, where possible, watched; raises KeyError for an unknown name."""
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
