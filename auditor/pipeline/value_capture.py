"""Value capture: runs that keep all values around a difference, and what they add to what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from auditor.compare import Comparison, compare
from auditor.plan import Plan, Watch
from auditor.results import Reason
from auditor.source import Flow
from auditor.trace.reader import Trace

#: Second looks at most: a fault that moves is looked at once more where it was seen then.
_LOOKS = 2
_WIDEST_WATCH = 20_000
#: Kinds whose sentence names a value of each run.
_OF_TWO_VALUES = ("draw", "argument")


def capture_values(
    plan: Plan, first: Comparison, make: Callable[[Plan, str, int, str, Reason], list[Trace]], flow: Flow | None = None
) -> Comparison:  # fmt: skip
    """Run twice more with all values around the difference kept; `make` and `flow` are those of an experiment runner."""
    watch = first.watch
    # A file that one run leaves for the next is written at the end: a run that is cut short would not leave it.
    to_the_end = first.divergence is not None and bool(first.divergence.detail.files)
    for stem in ("look", "look-again")[:_LOOKS]:
        if watch is None:
            break
        pair = make(plan.with_watch(watch, to_the_end=to_the_end), stem, 2, "look", Reason.of("closer-look"))
        seen = compare(pair[0], pair[1], flow=flow, training=bool(first.side))
        if seen.divergence is None:
            continue
        better = closer(first, seen)
        if better is not None:
            return better
        if seen.watch is None or seen.watch.lane != watch.lane:
            break
        watch = Watch(watch.lane, min(watch.first, seen.watch.first), max(watch.last, seen.watch.last), watch.identity)
        if watch.last - watch.first > _WIDEST_WATCH:
            break
    return first


def closer(first: Comparison, seen: Comparison) -> Comparison | None:
    """The first comparison with what value capture saw of its difference; None if that kept no values there."""
    divergence, found = first.divergence, seen.divergence
    if divergence is None or found is None or found.detail.evidence is None:
        return None
    found = found.model_copy(deep=True)
    better = replace(first, divergence=found, notes=[*first.notes])
    if found.index != divergence.index or found.lane != divergence.lane:
        better.notes.append(Reason.of("fault-moves", first=divergence.index, closer=found.index))
    else:
        found.detail.before = divergence.detail.before
        found.detail.carriers = found.detail.carriers or divergence.detail.carriers
        found.detail.differing_ops, found.detail.compared_ops = divergence.detail.differing_ops, divergence.detail.compared_ops
        if found.kind == divergence.kind and found.kind in _OF_TWO_VALUES:
            # the seeds and numbers are those of the runs that are named, not those of value capture
            found.reasons, found.detail.a, found.detail.b = divergence.reasons, divergence.detail.a, divergence.detail.b
            found.detail.streams, found.detail.origin = divergence.detail.streams, divergence.detail.origin
    found.runs, found.reaches = divergence.runs, divergence.reaches
    return better
