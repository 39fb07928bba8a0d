"""A random stream from which several threads draw, and did so in another order in the second run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.detectors import Detector, Hit, named

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_DRAWS = """SELECT d.lane, l.pid, d.stream, d.state, d.file, d.line FROM "all" d JOIN lanes l USING (lane)
    WHERE d.kind = 'draw' AND d.state IS NOT NULL AND d.state <> '0' ORDER BY d.lane, d."row"
"""


@dataclass(frozen=True)
class Params:
    """Nothing to set."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit a line at which a thread met the state that in the second run another thread of its process met.

    Threads of a pool are left out: which of them gets which task is chance, and no fault if the tasks draw in one order. A state that
    several threads met, as those that make a generator with one seed each, is nobody's.
    """
    if len(runs) < 2:
        return
    ours, theirs = (_met(run) for run in runs[:2])
    lines: dict[tuple[str | None, int | None], list[dict[str, Any]]] = {}
    for key, draw in ours.items():
        other = theirs.get(key)
        if other is not None and other["lane"] != draw["lane"] and draw["line"] is not None:
            draw["lanes"] = {draw["lane"], other["lane"]}
            lines.setdefault((draw["file"], draw["line"]), []).append(draw)
    for (file, line), draws in lines.items():
        lanes = sorted(set().union(*(draw["lanes"] for draw in draws)))
        yield Hit(file, line, {"stream": draws[0]["stream"], "who": named(lanes, 0, ""), "lanes": lanes}, len(draws))


def _met(run: Tables) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The draws of a run by their process (named by its first lane), stream and state; without states that were met twice."""
    lanes = run.run.lanes
    first = {lane.facts.get("pid"): name for name, lane in reversed(lanes.items())}
    pools = {name for name, lane in lanes.items() if lane.events_of("task")}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    twice = set()
    for draw in run.query(_DRAWS):
        key = first[draw["pid"]], draw["stream"], draw["state"]
        if key in found or draw["lane"] in pools:
            twice.add(key)
        found[key] = draw
    return {key: draw for key, draw in found.items() if key not in twice}


DETECTOR = Detector("shared-stream", _find, Params, frozenset({"stream", "who", "lanes"}))
