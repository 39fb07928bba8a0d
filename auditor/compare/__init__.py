"""Two traces -> the first divergence of each lane, its kind and its origin. Pure: reads what the traces hold and starts nothing.

**What is aligned with what.** Lanes are paired by name, which is their role (`main`, `worker 0`, `thread 2`), never by time: two
threads interleave differently in every run, and that is no difference. Within a lane, the n-th op or first sight of an external tensor
of one run belongs to the n-th of the other, up to the first that differs in anything that is compared. Behind it nothing is
aligned: what follows is shown as context only, while the two lanes still do the same ops.

**What "first" means.** Draws, seeds, files and settings are recorded in the same order as the ops, but a difference in one of them is no
divergence: a library that draws a name for a temporary file changes nothing. The first differing *op* (or external tensor) decides
that the runs diverged. If its kind says that something came in from outside (`data`, `argument`, another op ...), the draws and seeds
before it are asked for the origin: of the random streams that are seen to feed the line, or else of all, the one whose latest differing
draw is nearest; and of that stream the first draw or seed in which the runs differ (and that feeds the line). A seed that a draw feeds
came from that draw. An op whose inputs are equal has no origin before it, whatever else differs.

**Which lane is reported.** The main lane's divergence, unless it came from another lane. An op whose input was made in another lane of
its process has its origin there, if what was made there differs. What came over a collective has its origin in the rank that
differs after fewer collectives: it is counted, because ranks have no common clock. Data that came in from another process may be
that of a worker that diverged. A lane that merely ends earlier than its counterpart is no divergence unless it is the main one: workers
that run ahead are stopped at no particular op.

Workers of a pool are not lanes that are compared: which of them gets which task is chance, so tasks are, see `pools.py`.

**What the verdict is about.** With `training`, a script that trains diverges if its training does, see `reach.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, NamedTuple

from auditor.compare.arithmetic import compare_devices, divergence_of
from auditor.compare.context import context
from auditor.compare.effect import effect_of
from auditor.compare.environment import environment_differences
from auditor.compare.evidence import evidence_at, refined
from auditor.compare.files import differing_files
from auditor.compare.foreign import Outside, handed_before, outside, reason_of
from auditor.compare.mismatch import Mismatch, allocated_by, collectives_before, first_mismatch, forward_place, maker_lane, place_of
from auditor.compare.origin import DRAWN_FROM_OUTSIDE, differing_streams, origin, own_stream
from auditor.compare.pools import differing_tasks, in_pool
from auditor.compare.reach import next_by_itself, reached, shows_nothing
from auditor.compare.shadow import divergence_of_shadow, shadow_of
from auditor.errors import TraceError
from auditor.plan import Watch
from auditor.results import END, Detail, Divergence, OpLine, Reason
from auditor.source import Flow
from auditor.trace.lanes import without_number
from auditor.trace.reader import LaneTrace, Trace
from auditor.trace.records import Record

__all__ = [
    "Comparison", "before_the_end", "compare", "compare_devices", "divergence_of", "divergence_of_shadow", "effect_of",
    "environment_differences", "shadow_of",
]  # fmt: skip

#: Records before and (twice as many) behind a mismatch at which value capture keeps all values.
_AROUND = 40


@dataclass(frozen=True)
class Comparison:
    """What comparing two traces gave.

    The divergence to report, those of other lanes, what could not be compared, how many ops were, where values should be captured
    (None: it would show no more), and differences that reach no part of the training.
    """

    divergence: Divergence | None
    others: list[Divergence] = field(default_factory=list)
    notes: list[Reason] = field(default_factory=list)
    compared: int = 0
    watch: Watch | None = None
    side: list[Divergence] = field(default_factory=list)


class _Found(NamedTuple):
    """The first mismatch of a pair of lanes."""

    mismatch: Mismatch
    lane: LaneTrace
    counterpart: LaneTrace


def compare(a: Trace, b: Trace, *, flow: Flow | None = None, training: bool = False) -> Comparison:
    """Compare two runs lane by lane; `flow` tells what arrives where in their source, where that is at hand.

    With `training`, what is shown to reach no part of it is told apart, and unwritten memory of which nothing is ever shown is no
    difference. Raises TraceError `digests-differ`.
    """
    if len(a.digests | b.digests) > 1:
        raise TraceError(
            "digests-differ",
            f"{a.id} and {b.id} were recorded by versions of repro-audit that digest tensors differently: record them again",
        )
    found: list[_Found] = []
    notes: list[Reason] = []
    compared = 0
    scratch_alone = cache(partial(shows_nothing, a, b))  # it reads all lanes of both
    for name, lane in a.lanes.items():
        counterpart = b.lanes.get(name)
        if in_pool(lane) or (counterpart is not None and in_pool(counterpart)):
            compared += lane.ops
            continue
        if counterpart is None:
            if lane.ops:
                notes.append(Reason.of("lane-in-one-run", lane=name, ops=lane.ops, run=a.id))
            continue
        leading = lane is a.main or (lane.key.rank is not None and lane.key.worker is None and lane.key.thread is None)
        compared += min(lane.ops, counterpart.ops)
        mismatch = first_mismatch(lane, counterpart, a, b)
        while training and mismatch is not None and mismatch.kind == "uninitialized" and scratch_alone():
            mismatch = next_by_itself(mismatch, lane, counterpart, None)  # scratch memory: what was in it is never seen
        if mismatch is None:
            continue
        shorter = a if mismatch.a is None else b
        if mismatch.ended and (not leading or shorter.unfinished):
            notes.append(Reason.of("lane-ended", lane=name, index=mismatch.index))
            continue
        found.append(_Found(mismatch, lane, counterpart))
    alone = [lane for name, lane in b.lanes.items() if name not in a.lanes and lane.ops and not in_pool(lane)]
    notes += [Reason.of("lane-in-one-run", lane=lane.name, ops=lane.ops, run=b.id) for lane in alone]
    found += [_Found(*one) for one in differing_tasks(a, b)]
    if not found:
        return Comparison(None, [], notes, compared)
    divergences = [_divergence(one.mismatch, one.lane, one.counterpart, a, b, flow, _may_be_fed(one, found)) for one in found]
    first = _to_report(found, divergences, a, b)
    others = [d for d in divergences if d is not divergences[first]]
    whole = Comparison(divergences[first], others, notes, compared, _window(found[first].mismatch, found[first].lane))
    return _of_training(whole, found[first], a, b, flow) if training else whole


def _of_training(whole: Comparison, first: _Found, a: Trace, b: Trace, flow: Flow | None) -> Comparison:
    """The comparison with what it reaches; what reaches no part of the training is put aside."""
    what = reached(a, b)
    divergence = whole.divergence
    if what is None or divergence is None:
        return whole
    divergence.reaches = what.what
    if what.side:
        for other in whole.others:
            other.reaches = what.what
        return replace(whole, divergence=None, others=[], watch=None, side=[divergence, *whole.others])
    behind = next_by_itself(first.mismatch, first.lane, first.counterpart, what.first_step)
    if behind is None:
        return whole
    divergence.reaches = ["nothing"]
    further = _divergence(behind, first.lane, first.counterpart, a, b, flow, False)
    further.reaches = what.what
    return replace(whole, divergence=further, watch=_window(behind, first.lane), side=[divergence])


def before_the_end(a: Trace, b: Trace) -> Detail:
    """What was not the same in two runs that did the same ops: random streams, settings and files of their main lanes."""
    if a.main is None or b.main is None:
        return Detail()
    end = Mismatch("failed", len(a.main.compared[0]), None, None)
    return Detail(streams=differing_streams(a.main, b.main, end), files=differing_files(a.main, b.main, end))


def _window(mismatch: Mismatch, lane: LaneTrace) -> Watch | None:
    """The records around a mismatch; the two runs may have a different number of draws before it, so the window is generous."""
    if mismatch.a is None or mismatch.b is None:
        return None
    at = sorted((mismatch.a.record, mismatch.b.record))
    name = without_number(lane.name)  # the child knows its role, not how many had it before: its identity tells
    return Watch(name, max(at[0] - _AROUND, 0), at[1] + 2 * _AROUND, lane.facts["identity"] or None)


def _to_report(found: Sequence[_Found], divergences: Sequence[Divergence], a: Trace, b: Trace) -> int:
    """Place of the divergence from which that of the first lane came, as far as that is seen."""
    at = _earliest_rank(found)
    seen: set[int] = set()
    while at not in seen:
        seen.add(at)
        fed = maker_lane(found[at].mismatch, found[at].lane, found[at].counterpart, a, b)
        at = next((k for k, one in enumerate(found) if one.lane.name == fed), at)
    leading = divergences[at]
    if leading.kind not in DRAWN_FROM_OUTSIDE or leading.kind == "draw":
        return at
    own = found[at].lane.key
    within = None if own.is_rank else own.rank
    feeding = ("draw", "kernel", "uninitialized", "hidden-write", "outside-torch", "data", "data-order", "argument")
    near = [k for k, one in enumerate(found) if k not in seen and within in (None, one.lane.key.rank)]
    return next((k for k in near if divergences[k].kind in feeding), at)


def _earliest_rank(found: Sequence[_Found]) -> int:
    """Of ranks that diverged the one that did so after the fewest collectives, which the others wait for; else the first lane."""
    ranks = [k for k, one in enumerate(found) if one.lane.key.is_rank]
    if len(ranks) < 2 or 0 not in ranks:
        return 0
    return min(ranks, key=lambda k: collectives_before(found[k].mismatch, found[k].lane))


def _may_be_fed(one: _Found, found: Sequence[_Found]) -> bool:
    """Whether another process of the same rank diverged, too: a DataLoader worker's tensors come in at no recorded op."""
    pid, rank = (one.lane.facts.get(key) for key in ("pid", "rank"))
    return any(other.lane.facts.get("pid") != pid and other.lane.facts.get("rank") == rank for other in found)


def _divergence(
    mismatch: Mismatch, lane: LaneTrace, counterpart: LaneTrace, a: Trace, b: Trace, flow: Flow | None, fed: bool
) -> Divergence:  # fmt: skip
    """Everything there is to say about one mismatch; `fed`: another process may have handed over what differs."""
    evidence = evidence_at(mismatch, lane, counterpart, a, b)
    kind, reasons = refined(mismatch, evidence, lane, counterpart)
    streams, files = differing_streams(lane, counterpart, mismatch, flow), differing_files(lane, counterpart, mismatch)
    came: Outside | None = None
    if kind == "data" and not fed and not files and all(stream.how == "setting" for stream in streams):
        came = outside(mismatch, lane, counterpart)
        if came.handed:
            kind, reasons = "outside-torch", [reason_of(came)]
    row = mismatch.record
    entered = origin(kind, mismatch, lane, counterpart, flow, (a, b))
    own = entered.seen if entered is not None else own_stream(mismatch, lane, counterpart, (a, b)) if kind == "draw" else None
    if entered is None and own is not None and own.shared:
        reasons = [*reasons, Reason.of("drawn-in-turns")]
    if evidence is not None:
        evidence.reasons = reasons
    detail = Detail(
        evidence=evidence,
        streams=streams,
        files=files,
        handed=came.handed if came is not None else handed_before(mismatch, lane, counterpart) if kind == "hidden-write" else [],
        a=_shown(mismatch.a),
        b=_shown(mismatch.b),
        forward=forward_place(row),
        origin=own,
        row=entered.row if entered is not None else row.row,
    )
    maker = allocated_by(mismatch.a, lane) if kind == "uninitialized" and mismatch.a is not None else None
    if maker is not None:
        detail.allocated = place_of(maker)
    detail.before, detail.carriers, detail.differing_ops, detail.compared_ops = context(mismatch, lane, counterpart)
    where, op, phase = place_of(row), row.op or END, row.phase or ""
    shown: dict[str, Any] = {
        **where.model_dump(include={"file", "line", "function", "code"}),
        "step": row.step, "kind": kind, "op": op, "phase": phase,
    }  # fmt: skip
    if kind == "outside-torch" and came is not None:
        shown |= came.came.model_dump(include={"file", "line", "function", "code"})
    if entered is not None:
        detail.seen_at = OpLine(
            index=mismatch.index, op=op, phase=phase, step=row.step, differs=True, file=where.file, line=where.line,
            function=where.function, code=where.code,
        )  # fmt: skip
        reasons = entered.reasons
        shown.update(kind="draw", op=entered.op, file=entered.file, line=entered.line, function=entered.function, code=entered.code)
        shown.update({key: value for key, value in (("phase", entered.phase), ("step", entered.step)) if value is not None})
    return Divergence(
        runs=[a.id, b.id], lane=lane.name, index=mismatch.index if entered is None else entered.index, module=row.module,
        reasons=reasons, detail=detail, **shown,
    )  # fmt: skip


def _shown(row: Record | None) -> dict[str, object]:
    if row is None:
        return {}
    kept = ("op", "args", "numbers", "out", "file", "line", "phase", "step")
    return {key: value for key in kept if (value := getattr(row, key)) is not None} | {"digest": f"{row.digest:016x}"}
