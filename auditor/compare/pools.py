"""Workers of pools: which of them gets which task is chance, so tasks are compared and not workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from auditor.compare.mismatch import Mismatch, mismatch_at
from auditor.trace.reader import LaneTrace, Trace


class Task(NamedTuple):
    """The ops and external tensors that a lane did for one task: places in `LaneTrace.compared`, the last excluded."""

    lane: LaneTrace
    first: int
    end: int


def tasks_of(run: Trace) -> dict[tuple[str, int], Task]:
    """The tasks of all pools of a run by their names; of several with one name, those of the pool that was made first come first."""
    found: dict[tuple[str, int], Task] = {}
    many: Counter[str] = Counter()
    for lane in sorted(run.lanes.values(), key=lambda lane: (lane.facts["identity"], lane.facts["base"])):
        events = lane.events_of("task")
        if not events:
            continue
        rows = lane.compared[1]
        places = [*np.searchsorted(rows, [event["row"] for event in events]).tolist(), len(rows)]
        for event, first, end in zip(events, places, places[1:], strict=False):
            name = f"{lane.facts.get('rank')} {event.get('name')}"
            found[name, many[name]] = Task(lane, first, end)
            many[name] += 1
    return found


def in_pool(lane: LaneTrace) -> bool:
    """Whether a lane is that of a worker of a pool."""
    return bool(lane.events_of("task"))


def differing_tasks(a: Trace, b: Trace) -> Iterator[tuple[Mismatch, LaneTrace, LaneTrace]]:
    """Of each task that both runs did and that differs the first mismatch, with the lanes that did it."""
    theirs = tasks_of(b)
    for name, task in tasks_of(a).items():
        other = theirs.get(name)
        if other is None:
            continue
        x, y = (one.lane.compared[0][one.first : one.end] for one in (task, other))
        both = min(len(x), len(y))
        differs = np.flatnonzero(x[:both] != y[:both])
        if len(differs):
            at = int(differs[0])
            yield mismatch_at(task.first + at, task.lane, other.lane, other.first + at), task.lane, other.lane
