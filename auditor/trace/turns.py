"""Which updates belong to one turn of the training loop, so that steps are counted as users count them.

An *update* is a step of an optimizer or, in a script without one, a backward pass. One optimizer alone makes a step of each of its
updates. Of several, a step is one turn of the innermost loop in which they all update: the loops around an update are known from the
bytecode of the frames on its stack (`record/places.py`). So five updates of a critic in an inner loop and one of a generator are one
step, and a second optimizer that updates at every fifth turn leaves each turn a step. Optimizers that update at one and the same place (a
list of them, one for each parameter) make one step until one of them updates again.

That several optimizers belong together is not known before one of them returns behind another: phases of training that follow one
another, folds with an optimizer of their own, and an optimizer that begins late must not be taken for it. Numbers of earlier updates can
therefore change; `Turns.numbers` are the final ones. Needs but the standard library: the recorder counts by it as well.
"""

from __future__ import annotations

from typing import Any, NamedTuple

#: More updates than this in a row, of one optimizer in a loop of its own, are a phase of training and no part of a turn.
LONGEST = 256

Loop = tuple[int, int]


class Place(NamedTuple):
    """Where an update happens: the stack, and the loops around it, each from the outermost inwards."""

    frames: tuple[tuple[int, int], ...]
    """A number for the code of each frame, and the offset of the instruction at which it is."""
    loops: tuple[Loop, ...]
    """Index of the frame and offset at which the loop's body begins."""

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Place:
        """A line of the table `place`. Raises KeyError, TypeError, ValueError if it is none."""
        frames, loops = (tuple((int(a), int(b)) for a, b in entry[key]) for key in ("frames", "loops"))
        return cls(frames, tuple((frame, start) for frame, start in loops if 0 <= frame < len(frames)))

    def path(self) -> tuple[Loop, ...]:
        """The loops by what they are in the source: code and offset."""
        return tuple((self.frames[frame][0], start) for frame, start in self.loops)


NOWHERE = Place((), ())


class _Update(NamedTuple):
    who: int
    place: Place
    path: tuple[Loop, ...]


class _Around:
    """What was seen of the optimizers that update within one loop."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.run = 0  # updates of the last one in a row
        self.runs: dict[int, int] = {}  # how long the last such run of each was
        self.shared = False  # whether they are known to take turns
        self.once = True  # whether they may be one turn that did not come again
        self.first = 0  # updates of the lane before the first one here
        self.inside = 0  # runs in a loop within this one


class Turns:
    """Numbers the updates of one lane; `kept`: how many are remembered, to be numbered again when more is known."""

    def __init__(self, kept: int | None = None) -> None:
        self.updates = 0
        self.count = 0  # turns begun
        self._kept = kept
        self._history: list[_Update] = []
        self._previous: _Update | None = None
        self._around: dict[tuple[Loop, ...], _Around] = {}
        self._all: set[int] = set()  # who has updated
        self._whose: dict[int, int] = {}  # optimizer -> the first one in the place of which it was made
        self._at: dict[tuple[object, ...], dict[int, int]] = {}  # place -> who updates there, and when last
        self._limits: dict[tuple[tuple[Loop, ...], Loop, int], int] = {}  # of an inner loop, the most updates in a turn
        self._turn: set[int] = set()
        self._size = self._inner = 0
        self._smallest = 0
        self._enders: set[int] = set()

    def add(self, optimizer: int, made: int, place: Place) -> int:
        """One more update, by an optimizer that was made after so many of them; returns how many turns have begun."""
        anew = optimizer not in self._whose
        update = _Update(self._canonical(optimizer, made, place), place, place.path())
        self._all.add(update.who)
        changed = self._learn(update, made, anew and update.who != optimizer)
        self.updates += 1
        whole = self._kept is None or len(self._history) < self._kept
        if whole:
            self._history.append(update)
        if changed and whole:
            self._renumber()
        else:
            self._number(update, self._previous)
        self._previous = update
        return self.count

    def numbers(self) -> list[int]:
        """The turn of each update, from 0, now that there are no more."""
        for around in self._around.values():
            around.shared = around.shared or (around.once and len(around.runs) > 1)
        self._learn_limits()
        return [number - 1 for number in self._renumber()]

    def is_complete(self, waiting: bool) -> bool:
        """Whether the turn that runs has had all its updates, as far as one can know; `waiting`: an optimizer has not updated yet."""
        several = any(around.shared for around in self._around.values())
        if not several:
            return not waiting and (len(self._all) == 1 or self._turn >= {update.who for update in self._history[-LONGEST:]})
        last = self._previous
        return last is not None and last.who in self._enders and self._size >= self._smallest

    def is_open(self, place: Place, waiting: bool) -> bool:
        """Whether the numbers may still become smaller: an optimizer that updates within a loop around this place is awaited or new."""
        path = place.path()
        shared = [around for depth in range(1, len(path) + 1) if (around := self._around.get(path[:depth])) and around.shared]
        around_it = [(depth, self._around.get(path[:depth])) for depth in range(1, len(path) + 1)]
        unsure = any(around and len(around.runs) > 1 and (depth < len(path) or around.once) for depth, around in around_it)
        return not shared and (unsure or (waiting and len(path) > 1))

    def _canonical(self, optimizer: int, made: int, place: Place) -> int:
        """Who an optimizer is: one that was made anew is the one that updated here before, and does no more."""
        who = self._whose.get(optimizer)
        here = self._at.setdefault(place.frames, {})
        if who is None:
            who = next((old for old, last in here.items() if last < made), optimizer) if made else optimizer
            self._whose[optimizer] = who
        here[who] = self.updates
        return who

    def _learn(self, update: _Update, made: int, anew: bool) -> bool:
        """Note who updates within which loops; whether one is now known to be shared that was not.

        A loop that makes optimizers `anew`, which then have loops of their own (for each seed, each fold), is none of training.
        """
        changed = False
        paths = [update.path[:depth] for depth in range(1, len(update.path) + 1)] or [()]
        for path in paths:
            around = self._around.setdefault(path, _Around())
            inside = update.path != path
            if around.last == update.who:
                around.run += 1
                around.once &= inside and around.run <= LONGEST
            else:
                if around.last is None:
                    around.first = self.updates
                elif update.who in around.runs and max(around.run, around.runs[update.who]) <= LONGEST and not around.shared:
                    # they take turns here, and not only in one loop within this one
                    elsewhere = update.path[: len(path) + 1] != (self._previous or update).path[: len(path) + 1]
                    here = not inside or (elsewhere and not anew)
                    around.shared |= here
                    changed |= here
                around.run = 1
                around.inside += inside
                around.once &= update.who not in around.runs and made <= around.first and around.inside <= 1
            around.last = update.who
            around.runs[update.who] = around.run
        return changed

    def _learn_limits(self) -> None:
        """How many updates an inner loop makes in a turn at most, of those that lie between updates of others."""
        self._limits.clear()
        runs: list[tuple[tuple[tuple[Loop, ...], Loop, int], int]] = []
        before = None
        for update in self._history:
            shared = self._shared(update)
            key = (shared, update.path[len(shared)], update.who) if shared is not None and len(update.path) > len(shared) else None
            if key is not None and key == before:
                runs[-1] = key, runs[-1][1] + 1
            elif key is not None:
                runs.append((key, 1))
            before = key
        for key, length in runs[1:-1]:
            if length <= LONGEST:
                self._limits[key] = max(length, self._limits.get(key, 0))

    def _shared(self, update: _Update) -> tuple[Loop, ...] | None:
        """The innermost loop around an update that several optimizers share."""
        for depth in range(len(update.path), 0, -1):
            if self._around[update.path[:depth]].shared:
                return update.path[:depth]
        return () if not update.path and self._around[()].shared else None

    def _renumber(self) -> list[int]:
        self.count = self._size = self._inner = self._smallest = 0
        self._turn, self._enders = set(), set()
        found = []
        for before, update in zip([None, *self._history], self._history, strict=False):
            self._number(update, before)
            found.append(self.count)
        return found

    def _number(self, update: _Update, before: _Update | None) -> None:
        if before is None or self._begins(update, before):
            if before is not None:
                self._enders.add(before.who)
                self._smallest = min(self._smallest or self._size, self._size)
            self.count += 1
            self._turn = set()
            self._size = self._inner = 0
        self._turn.add(update.who)
        self._size += 1
        self._inner = self._inner + 1 if before is not None and before.who == update.who and before.path == update.path else 1

    def _begins(self, update: _Update, before: _Update) -> bool:
        """Whether an update is the first of a turn."""
        mine, others = self._shared(update), self._shared(before)
        if mine is None or others is None:
            return True
        again = update.who in self._turn
        if mine != others:
            return again or others[: len(mine)] != mine  # else it is done around the loop of those before, behind them
        if not mine:
            return again
        child, other = (one.path[len(mine) : len(mine) + 1] for one in (update, before))
        if child and child == other:
            limit = self._limits.get((mine, child[0], update.who), LONGEST)
            return before.who == update.who and self._inner >= limit
        way = _way(before.place, update.place, update.place.loops[len(mine) - 1][0])
        return again and way <= 0 if way is not None else again


def _way(a: Place, b: Place, outermost: int) -> int | None:
    """Above 0 if `b` lies behind `a`, below if before, 0 if it is the same place; None if a frame outside the loop is at another place."""
    if a.frames[:outermost] != b.frames[:outermost]:
        return None
    for (code, one), (other, two) in zip(a.frames[outermost:], b.frames[outermost:], strict=False):
        if code != other:
            return 0
        if one != two:
            return two - one
    return 0
