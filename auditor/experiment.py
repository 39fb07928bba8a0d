"""Decides which runs to make next, given the results so far. Pure: an interrupted search continues from its results.

**When the controls differ**, each difference has *suspects*: factors in the order in which its kind points to them. The first suspects are
pinned one at a time, because most faults have one cause and it is among them. If none of them removes the difference, all factors are
pinned; if that does, delta debugging (Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE TSE 28, 2002) finds a
minimal sufficient set. Proved factors stay pinned, and the search continues with the next difference until the runs agree, so independent
causes are found one after another, each with the difference that it causes. The last step is the converse: all factors pinned but one, and
the runs must differ again. Where pinning either of two factors has the same effect (a loader's base seed is drawn from torch's stream, and
the workers' streams are seeded from it), neither alone brings the difference back; then both are left free together.

**When the controls agree**, one run varies all factors that should not matter. If it differs, the suspects are varied one at a time; if
none of them makes a difference alone, delta debugging finds a minimal set that does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from auditor.results import Reason

Purpose = Literal["holds", "fails", "returns", "varies"]

#: Suspects that are tried alone before all factors are tried together.
_SUSPECTS = 2
#: Highest chance of accidental agreement at which a factor still counts as proved.
LUCK = 0.05


@dataclass(frozen=True)
class Seen:
    """The first difference between two runs, as far as the search needs it.

    `places`: for each lane that differs, the index of the first op that does. `origin` distinguishes differences at one op: the random
    stream, or the line. `suspects`: factors, most likely first.
    """

    lane: str
    places: Mapping[str, int]
    origin: str
    suspects: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """Runs to make: with which factors, and which question they answer.

    `holds`: do runs with these factors pinned agree; `fails`: does a run with them end differently from the controls; `returns`: do runs
    with these factors pinned still differ; `varies`: does a run with these factors varied differ from the control. `around`: the difference
    in question.
    """

    factors: frozenset[str]
    purpose: Purpose
    question: Reason
    around: Seen | None = None


@dataclass(frozen=True)
class Trial:
    """Result of the runs of a `Wanted`; `runs` are their names. `failed`: all of them ended differently from the controls.

    `blamed`: if they failed, the factors that may be the reason, most likely first.
    """

    factors: frozenset[str]
    purpose: Purpose
    seen: Seen | None
    failed: bool = False
    runs: tuple[str, ...] = ()
    blamed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """A factor, the difference that disappears when it is pinned, and the runs that prove it.

    `returned`: the runs in which all factors but it were pinned, and the difference came back.
    """

    factor: str
    seen: Seen
    held: Trial
    returned: Trial | None = None
    beside: tuple[str, ...] = ()
    """Factors with the same effect when pinned: the difference came back only when all of them were left free."""


@dataclass(frozen=True)
class Search:
    """State of a search. `wanted` is what to try next, None when it is over; `unexplained`: the difference that no factor explains."""

    wanted: Wanted | None
    found: tuple[Found, ...] = ()
    aside: tuple[str, ...] = ()
    unexplained: Seen | None = None


class _Open(Exception):  # noqa: N818  # no error: the search cannot go on without this trial
    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.wanted = wanted


@dataclass
class _Known:
    """The trials made, and what they have proved so far."""

    trials: Mapping[tuple[frozenset[str], Purpose], Trial]
    found: list[Found] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)

    def of(self, factors: Iterable[str], purpose: Purpose, question: Reason, around: Seen | None = None) -> Trial:
        key = frozenset(factors), purpose
        if key not in self.trials:
            raise _Open(Wanted(*key, question, around))
        return self.trials[key]

    @property
    def names(self) -> list[str]:
        return [found.factor for found in self.found]


def search(
    factors: Sequence[str],
    first: Seen,
    trials: Sequence[Trial],
    last: Collection[str] = (),
    also_pins: Mapping[str, Sequence[str]] | None = None,
) -> Search:
    """State of the search for the factors that make the controls differ.

    `factors`: in their default order of suspicion. `first`: the difference between the controls. `last`: factors that are equal in two runs
    on one machine but change results when pinned, so they are pinned last. `also_pins`: for a factor, those that are pinned with it.
    """
    return _searched(lambda known: _held(known, list(factors), first, last, also_pins or {}), trials)


def search_varied(factors: Sequence[str], trials: Sequence[Trial], intermittent: Collection[str] = ()) -> Search:
    """State of the search for the factors that make a run differ from the control when all of them are varied.

    `intermittent`: factors that may differ between runs even if they are not varied. A difference that points to one of them says nothing
    about the varied factors; if only such a difference is left, it is `unexplained`.
    """
    return _searched(lambda known: _varied(known, list(factors), intermittent), trials)


def _searched(go: Callable[[_Known], Seen | None], trials: Sequence[Trial]) -> Search:
    known = _Known({(trial.factors, trial.purpose): trial for trial in trials})
    wanted = unexplained = None
    try:
        unexplained = go(known)
    except _Open as stopped:
        wanted = stopped.wanted
    return Search(wanted, tuple(known.found), tuple(known.aside), unexplained)


def _held(known: _Known, factors: list[str], first: Seen, last: Collection[str], also_pins: Mapping[str, Sequence[str]]) -> Seen | None:
    """Pin factors until the differences are gone; returns the difference that no factor removes."""
    current: Seen | None = first
    enough = [name for name in factors if name not in last]
    unexplained = None
    while current is not None:
        trial = _suspect(known, factors, current)
        if trial is None:
            trial, enough = _any(known, factors, enough, current)
            if trial is None:
                unexplained = current
                break
        current = trial.seen
    for k, found in enumerate(known.found):
        rest = [name for name in enough if name not in known.aside and name != found.factor and found.factor not in also_pins.get(name, ())]
        known.found[k] = _returns(known, rest, found)
    return unexplained


def _suspect(known: _Known, factors: list[str], current: Seen) -> Trial | None:
    """Pin the suspects of a difference one by one; returns the trial without the difference."""
    suspects = [name for name in current.suspects if name in factors and name not in known.names]
    for name in suspects[:_SUSPECTS]:
        if name in known.aside:
            continue
        trial = known.of([*known.names, name], "holds", Reason.of("is-it", factor=name), current)
        if trial.failed:
            known.aside.append(name)
        elif _gone(current, trial.seen):
            known.found.append(Found(name, current, trial))
            return trial
    return None


def _any(known: _Known, factors: list[str], enough: list[str], current: Seen) -> tuple[Trial | None, list[str]]:
    """Pin all factors, then find a smallest set that suffices; also returns the set that "all" stands for."""
    for everything in [enough] if len(enough) == len(factors) else [enough, factors]:
        trial = _all(known, everything)
        if _gone(current, trial.seen) and not trial.failed:
            break
    else:
        return None, everything
    left = sorted((name for name in everything if name not in [*known.aside, *known.names]), key=partial(_rank, seen=current))
    if not left:
        return None, everything
    for name in _smallest(left, partial(_makes_go, known, current)):
        known.found.append(Found(name, current, trial))
    trial = known.of(known.names, "holds", Reason.of("do-they-suffice"), current) if len(known.names) < len(everything) else trial
    start = len(known.found) - sum(found.seen is current for found in known.found)
    known.found[start:] = [replace(found, held=trial) for found in known.found[start:]]
    return trial, everything


def _all(known: _Known, everything: list[str]) -> Trial:
    """Pin all factors except those that break the script."""
    while True:
        rest = [name for name in everything if name not in known.aside]
        trial = known.of(rest, "holds", Reason.of("is-it-any"))
        if not trial.failed or not rest:
            return trial
        known.aside += _unbearable(known, rest, trial, "fails")


def _unbearable(known: _Known, names: list[str], failed: Trial, purpose: Purpose) -> list[str]:
    """A smallest set of factors that breaks the script; a blamed factor alone, if a trial confirms it."""

    def fails(some: list[str]) -> bool:
        return known.of(some, purpose, Reason.of("which-fails")).failed

    blamed = [name for name in failed.blamed if name in names][:_SUSPECTS]
    return next(([name] for name in blamed if fails([name])), []) or _smallest(names, fails)


def _makes_go(known: _Known, current: Seen, names: list[str]) -> bool:
    trial = known.of([*known.names, *names], "holds", Reason.of("which-is-it"), current)
    return not trial.failed and _gone(current, trial.seen)


def _returns(known: _Known, rest: list[str], found: Found) -> Found:
    """Free this factor alone and pin the rest; if the difference does not return, free its fellow suspects too."""
    trial = known.of(rest, "returns", Reason.of("comes-back", factors=[found.factor]), found.seen)
    while trial.failed and rest:
        known.aside += _unbearable(known, rest, trial, "fails")
        rest = [name for name in rest if name not in known.aside]
        trial = known.of(rest, "returns", Reason.of("comes-back", factors=[found.factor]), found.seen)
    if trial.seen is not None and not trial.failed:
        return replace(found, returned=trial)
    beside = [name for name in found.seen.suspects if name in rest and name not in known.names]
    if beside:
        question = Reason.of("comes-back", factors=[found.factor, *beside])
        together = known.of([name for name in rest if name not in beside], "returns", question, found.seen)
        if together.seen is not None and not together.failed:
            return replace(found, returned=together, beside=tuple(beside))
    return found


def _varied(known: _Known, factors: list[str], intermittent: Collection[str]) -> Seen | None:
    """Find the factors that make a run differ from the control when varied."""
    while True:
        rest = [name for name in factors if name not in known.names and name not in known.aside]
        if not rest:
            return None
        everything = known.of(rest, "varies", Reason.of("any-difference"))
        if everything.failed:
            known.aside += _unbearable(known, rest, everything, "varies")
            continue
        current = everything.seen
        if current is None:
            known.found[:] = [replace(found, returned=found.returned or everything) for found in known.found]
            return None
        if _is_by_chance(everything, intermittent):
            return current
        suspects = [name for name in current.suspects if name in rest][:_SUSPECTS]
        does = partial(_makes_differ, known, current, intermittent)
        names = next(([name] for name in suspects if does([name])), [])
        names = names or _smallest(sorted(rest, key=partial(_rank, seen=current)), does)
        trial = known.of(names, "varies", Reason.of("which-is-it"), current)
        known.found += [Found(name, trial.seen or current, trial) for name in names]


def _is_by_chance(trial: Trial, intermittent: Collection[str]) -> bool:
    """Whether a varied run differs in an intermittent factor that was not varied in it."""
    suspects = trial.seen.suspects if trial.seen is not None and not trial.failed else ()
    return bool(suspects) and suspects[0] in intermittent and suspects[0] not in trial.factors


def _makes_differ(known: _Known, current: Seen, intermittent: Collection[str], names: list[str]) -> bool:
    trial = known.of(names, "varies", Reason.of("which-is-it"), current)
    return trial.seen is not None and not trial.failed and not _is_by_chance(trial, intermittent)


def _gone(before: Seen, now: Seen | None) -> bool:
    """Whether a difference is gone: its lane agrees, or the lane differs later and for another reason, or here for another reason.

    A difference that only moved, with the same origin, is still there: an intermittent fault shows earlier in one run and later in another.
    """
    if now is None or before.lane not in now.places:
        return True
    was, at = before.places[before.lane], now.places[before.lane]
    alike = now.lane == before.lane and now.origin == before.origin
    return not alike and (at > was or (at == was and now.lane == before.lane))


def _rank(name: str, seen: Seen) -> int:
    return seen.suspects.index(name) if name in seen.suspects else len(seen.suspects)


def _smallest(names: list[str], does: Callable[[list[str]], bool]) -> list[str]:
    """ddmin: a subset of names that suffices together, and from which none can be left out."""
    current, parts = names, 2
    while len(current) > 1:
        for candidate, then in _candidates(current, parts):
            if does(candidate):
                current, parts = candidate, then
                break
        else:
            if parts >= len(current):
                break
            parts = min(len(current), 2 * parts)
    return current


def _candidates(names: list[str], parts: int) -> Iterator[tuple[list[str], int]]:
    """Each part, then each complement; with the number of parts to continue with."""
    size = -(-len(names) // parts)
    chunks = [names[k : k + size] for k in range(0, len(names), size)]
    yield from ((chunk, 2) for chunk in chunks)
    if len(chunks) > 2:
        yield from (([name for name in names if name not in chunk], max(parts - 1, 2)) for chunk in chunks)


def chance_of_luck(apart: int, others: int, runs: int) -> float:
    """Chance that `runs` further runs all agree with the first although nothing has changed, if `apart` of `others` differed.

    The predictive probability under a uniform prior of the rate (Laplace's rule of succession): prod over i = 0..apart of (others - apart +
    1 + i) / (others - apart + 1 + runs + i).
    """
    chance = 1.0
    for i in range(apart + 1):
        chance *= (others - apart + 1 + i) / (others - apart + 1 + runs + i)
    return chance


def runs_needed(apart: int, others: int) -> int:
    """How many runs must agree to rule out chance: one more than the smallest number with `chance_of_luck` at most `LUCK`."""
    runs = 1
    while chance_of_luck(apart, others, runs) > LUCK:
        runs += 1
    return runs + 1


def wilson(apart: int, others: int, z: float = 1.959964) -> tuple[float, float]:
    """Ends of the 95 % interval of a rate (Wilson, Journal of the American Statistical Association 22, 1927)."""
    if not others:
        return 0.0, 1.0
    rate, square = apart / others, z * z
    middle = (rate + square / (2 * others)) / (1 + square / others)
    half = z / (1 + square / others) * (rate * (1 - rate) / others + square / (4 * others * others)) ** 0.5
    return max(middle - half, 0.0), min(middle + half, 1.0)
