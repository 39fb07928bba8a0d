"""Which step an update and a record is in: found when a run is sealed, from what the recorder wrote of each update.

A step ends with the last update of a turn of the training loop (`turns`). What the first turn did before its forward pass is in step 0
and no setup, although the recorder could not know that the loop had begun: it comes from a line within the loop, or right before such a
line and then again at the beginning of the next step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.trace.turns import NOWHERE, Place, Turns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def steps_of(updates: list[dict[str, Any]], begun: dict[str, Any] | None, places: dict[int, dict[str, Any]]) -> list[int]:
    """The step of each update, from 0; `begun`: one more that ended the script before it was made. Without places each is a step."""
    turns = Turns()
    try:
        for event in [*updates, *([] if begun is None else [begun])]:
            entry = places.get(event["place"])
            turns.add(event["by"], event["made"], NOWHERE if entry is None else Place.of(entry))
        return turns.numbers()[: len(updates)]
    except (KeyError, TypeError, ValueError):  # of an earlier version, or damaged
        return list(range(len(updates)))


def ends_of(updates: list[dict[str, Any]], steps: list[int]) -> list[int]:
    """Of each step the number of the last record in it."""
    last = zip(steps, [*steps[1:], -1], updates, strict=False)
    return [event["at"] for step, following, event in last if step != following]


def first_turn(
    updates: list[dict[str, Any]],
    places: dict[int, dict[str, Any]],
    sites: dict[int, dict[str, Any]],
    site: npt.NDArray[np.int32],
    step: npt.NDArray[np.int64],
    setup: int,
) -> int:
    """The first of the `setup` leading rows that belongs to the first turn of the loop; `setup` if none does."""
    import numpy as np

    if not updates or not setup:
        return setup
    loops = _training_loops(updates[0], places)
    within = [
        number
        for number, entry in sites.items()
        if any(entry["file"] == f and entry["func"] == func and a <= (entry["line"] or 0) <= b for f, func, a, b in loops)
    ]
    inside = np.flatnonzero(np.isin(site[:setup], within)) if within else np.zeros(0, np.int64)
    start = int(inside[0]) if len(inside) else setup
    # what a function of the user's or a data set did for the first batch: as at the beginning of the next step
    again = np.flatnonzero(step == 1)
    if start < len(site) and len(again):
        following = site[again[0] : again[-1] + 1]
        same = np.flatnonzero(following == site[start])
        if len(same) and 0 < (ahead := int(same[0])) <= start and (following[:ahead] == site[start - ahead : start]).all():
            start -= ahead
    return start


def _training_loops(update: dict[str, Any], places: dict[int, dict[str, Any]]) -> list[tuple[str, str, int, int]]:
    """File, function, first and last line of the loops around an update that its optimizer was made before."""
    try:
        place, born = places[update["place"]], places.get(update["born"])
        around = list(zip(Place.of(place).path(), place["lines"], strict=True))
        before = set() if born is None else set(Place.of(born).path())
        return [(str(file), str(function), int(a), int(b)) for loop, (file, function, a, b) in around if loop not in before]
    except (KeyError, TypeError, ValueError):
        return []
