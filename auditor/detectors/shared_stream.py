"""A random stream from which several threads draw, in a different order in the second run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit, named
from auditor.trace.shared_streams import exchanged_draws

if TYPE_CHECKING:
    from auditor.trace.shared_streams import Exchanged
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per line at which a thread met a state that another thread of its process met in the second run; none for thread pools."""
    if len(runs) < 2:
        return
    lines: dict[tuple[str, int], list[Exchanged]] = {}
    for one in exchanged_draws(runs[0].run, runs[1].run):
        if one.draw["line"] is not None and not one.lane.events_of("task") and not one.other.events_of("task"):
            lines.setdefault((one.draw["file"], one.draw["line"]), []).append(one)
    for (file, line), found in lines.items():
        lanes = sorted({lane.name for one in found for lane in (one.lane, one.other)})
        yield Hit(file, line, {"stream": found[0].draw["stream"], "who": named(lanes, 0, ""), "lanes": lanes}, len(found))


DETECTOR = Detector("shared-stream", _find, Params, frozenset({"stream", "who", "lanes"}))
