"""Other names of what was written in place: after `for w, g in zip(weights, slopes): w -= g` it is the weights that have a new value.

Names are looked for only where the source says that there may be some: among the variables of the function that wrote and of those that
called it, in lists and dicts that these hold, and among attributes that were assigned. Never asks an object for anything.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.probes.named_values.reading import MISSING, quoted

if TYPE_CHECKING:
    from types import FrameType

    from auditor.record.probes.named_values.objects import Owner
    from auditor.record.probes.named_values.source import Plan, Target

#: Functions of the user's that are gone up through.
_CALLERS = 8
#: Objects of which it is known which attribute held them.
_MOST = 4096


class Attributes:
    """Which attribute or entry was given which object last: by its number alone, which may be another object's by now."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Target]] = {}

    def note(self, target: Target, owner: Any, value: Any) -> None:
        """A target with a path, whose root holds `owner`, was given a value."""
        try:
            reference = weakref.ref(owner)
        except TypeError as error:
            if interrupts(error):
                raise
            return
        if len(self._known) >= _MOST:
            self._known = {key: found for key, found in self._known.items() if found[0]() is not None}
        if len(self._known) < _MOST:
            self._known[id(value)] = reference, target

    def of(self, value: Any) -> tuple[Any, Target] | None:
        """Owner and target that were given a value, or one that had its number."""
        found = self._known.get(id(value))
        owner = found[0]() if found is not None else None
        return (owner, found[1]) if found is not None and owner is not None else None


def others(
    value: Any, frame: FrameType, plan_of: Callable[[Any], Plan | None], variables_of: Callable[[Plan, FrameType], Any],
    reached: Callable[..., tuple[str, Any, Owner | None] | None], most: tuple[int, int],
) -> Iterator[tuple[Target, str, Owner | None, int]]:  # fmt: skip
    """Targets, paths and owners by which variables of a frame and of its callers hold an object, and how many calls above the frame.

    `most`: entries, levels of containers.
    """
    at: FrameType | None = frame
    for above in range(_CALLERS):
        while at is not None and plan_of(at.f_code) is None:
            at = at.f_back
        if at is None:
            return
        plan = plan_of(at.f_code)
        assert plan is not None
        variables = variables_of(plan, at)
        for target in plan.names:
            holds = variables.get(target.root, MISSING)
            if holds is MISSING:
                continue
            if not target.path:
                yield from ((target, text, None, above) for text in within(target.root, holds, value, *most))
            elif (found := reached(target, holds, at, variables)) is not None:
                yield from ((target, text, found[2], above) for text in within(found[0], found[1], value, *most))
        at = at.f_back


def within(text: str, holds: Any, value: Any, widest: int, deepest: int) -> Iterator[str]:
    """Where in a variable an object is: itself, or entries of lists, tuples and dicts."""
    if holds is value:
        yield text
    elif deepest and isinstance(holds, (list, tuple, dict)) and len(holds) <= widest:
        for key, entry in dict.items(holds) if isinstance(holds, dict) else enumerate(holds):
            if type(key) in (str, int):
                yield from within(f"{text}[{quoted(key)}]", entry, value, widest, deepest - 1)
