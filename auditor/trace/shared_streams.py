"""Which draws of one random stream went to another thread in a second run: the threads share the stream, and timing decides who draws."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from auditor.trace.reader import LaneTrace, Trace


class Exchanged(NamedTuple):
    """A draw of the first run and the lane that met its state there and, in the second run, the lane that did."""

    draw: dict[str, Any]
    lane: LaneTrace
    other: LaneTrace


class _Met(NamedTuple):
    who: str
    draw: dict[str, Any]
    lane: LaneTrace


def exchanged_draws(a: Trace, b: Trace, process: LaneTrace | None = None) -> Iterator[Exchanged]:
    """The draws whose state another thread of the same process met in the second run; with `process`, those of that lane's process.

    Of a pool's threads it counts which task met a state, since which thread does a task is chance; a worker process draws alone. Each
    must have drawn as often in both runs: where one drew more often, all that follow meet another state though nobody changed turns.
    A state that two met, such as those of generators with one seed, tells nothing.
    """
    theirs = _by_process(b)
    for name, lanes in _by_process(a).items():
        others = theirs.get(name, [])
        if len(lanes) < 2 or len(others) < 2 or (process is not None and process.name not in {one.name for one in lanes}):
            continue
        ours_of, theirs_of = _by_stream(lanes), _by_stream(others)
        for stream, ours in ours_of.items():
            met, again = _once(ours), theirs_of.get(stream, [])
            if Counter(one.who for one in ours) != Counter(one.who for one in again):
                continue
            for state, one in _once(again).items():
                if state in met and met[state].who != one.who:
                    yield Exchanged(met[state].draw, met[state].lane, one.lane)


def _by_process(run: Trace) -> dict[str, list[LaneTrace]]:
    """The main thread and the threads of each process, by the name of the first of them."""
    found: dict[object, list[LaneTrace]] = {}
    for lane in run.lanes.values():
        if "thread" in (lane.facts.get("role") or {}) or not lane.events_of("task"):
            found.setdefault(lane.facts.get("pid"), []).append(lane)
    return {lanes[0].name: lanes for lanes in found.values()}


def _by_stream(lanes: list[LaneTrace]) -> dict[str, list[_Met]]:
    found: dict[str, list[_Met]] = {}
    for lane in lanes:
        tasks = lane.events_of("task")
        begun = [event["row"] for event in tasks]
        for draw in lane.draws:
            at = bisect_right(begun, draw["row"])
            who = f"task {tasks[at - 1].get('name')}" if at else lane.name
            found.setdefault(draw["stream"], []).append(_Met(who, draw, lane))
    return found


def _once(draws: list[_Met]) -> dict[int, _Met]:
    times = Counter(one.draw["digest"] for one in draws)
    return {one.draw["digest"]: one for one in draws if one.draw["digest"] and times[one.draw["digest"]] == 1}
