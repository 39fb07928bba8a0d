"""What a difference reaches: the training, or only something that is printed or thrown away.

It is never said by following producers alone that training is not reached: a value can go through Python, a branch or a generator and
leave no producer behind. What is asked is whether the training of both runs is the same: the loss, gradients, parameters and optimizer
state of every step, and every file that was written. Beside that, no record of the runs that differs may lie in a module, in a backward
pass or in an optimizer, nor write memory that one of these uses: buffers and averaged weights are in no optimizer.

Records are compared step by step as multisets of what they did, so that a few more ops in one run (a log line now and then) do not make
all that follows differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditor.compare.columns import Array, Columns, lanes_as_columns
from auditor.compare.mismatch import Mismatch, mismatch_at
from auditor.compare.origin import origin
from auditor.results import Reach
from auditor.trace import BACKWARD
from auditor.trace.ops import COLLECTIVES
from auditor.trace.reader import LaneTrace, Trace

#: Facts of a step -> what they are digests of.
_OF_STEP: dict[str, Reach] = {
    "loss_digest": "loss", "gradients": "gradients", "parameters": "parameters", "state": "optimizer-state",
}  # fmt: skip
#: Differing records behind a side difference that are looked through for one that is none.
_LOOKED_THROUGH = 20_000
#: Those of them, with no input that differs, of which the kind is asked: each costs some questions to the database.
_CLASSIFIED = 200


@dataclass(frozen=True)
class Reached:
    """What the differences between two runs reach; `side`: it is shown that they reach no part of the training."""

    what: list[Reach]
    side: bool
    first_step: int | None = None  # the first step after which the training differs


def reached(a: Trace, b: Trace) -> Reached | None:
    """What all differences between two runs reach together; None where it cannot be told."""
    if not all(run.has_every_op for run in (a, b)) or not any(lane.steps for run in (a, b) for lane in run.lanes.values()):
        return None
    what: dict[Reach, None] = {}
    first = None
    for name, lane in a.lanes.items():
        other = b.lanes.get(name)
        none: list[Reach] = ["loss"] if lane.steps else []
        step, differing = _training(lane, other) if other is not None else (0, none)
        what |= dict.fromkeys(differing)
        if differing:
            first = step if first is None else min(step, first)
    files = _files(a, b)
    if files:
        what["saved-files"] = None
    alone = [lane for run, other in ((a, b), (b, a)) for name, lane in run.lanes.items() if name not in other.lanes and lane.ops]
    whole = not alone and all(run.meta.get("exit") == 0 and not run.meta.get("stopped") for run in (a, b)) and files is not None
    touches = False
    for name in a.lanes.keys() & b.lanes.keys():
        kinds, within = _differing_records(a.lanes[name], b.lanes[name])
        what |= dict.fromkeys(kinds)
        touches = touches or within
    side = whole and not touches and not {*_OF_STEP.values(), "saved-files"} & what.keys()
    return Reached(list(what) or ["nothing"], side, first)


def shows_nothing(a: Trace, b: Trace) -> bool:
    """Whether all that two runs show of what they computed is the same, though records in between differ.

    That is what they printed and wrote to files, each number that left torch, and the training. Both did the same ops and showed something.
    """
    whole = all(run.has_every_op and run.meta.get("exit") == 0 and not run.meta.get("stopped") for run in (a, b))
    if not whole or _files(a, b) != [] or a.lanes.keys() != b.lanes.keys():
        return False
    trained = False
    for name, lane in a.lanes.items():
        other = b.lanes[name]
        sides = lanes_as_columns(lane, other)
        ours, theirs = (side.op[rows] for side, (_, rows) in zip(sides, (lane.compared, other.compared), strict=True))
        if not np.array_equal(ours, theirs) or _training(lane, other)[1] or _differing_records(lane, other)[0]:
            return False
        trained = trained or bool(lane.steps)
    printed = [run.printed("stdout") for run in (a, b)]
    return None not in printed and printed[0] == printed[1] and bool(trained or printed[0] or a.written)


def _training(lane: LaneTrace, other: LaneTrace) -> tuple[int, list[Reach]]:
    """The first step that is not the same in two runs, and what of it is not; the steps of a run that has more of them count."""
    ours, theirs = lane.events_of("step"), other.events_of("step")
    for x, y in zip(ours, theirs, strict=False):
        differing: list[Reach] = [name for fact, name in _OF_STEP.items() if x.get(fact) != y.get(fact)]
        if differing:
            return int(x.get("step") or 0), differing
    return min(len(ours), len(theirs)), ["parameters"] if len(ours) != len(theirs) else []


def _files(a: Trace, b: Trace) -> list[str] | None:
    """Files that did not hold the same after the two runs; None where it is not known what one of them wrote."""
    ours, theirs = a.written, b.written
    if ours is None or theirs is None:
        return None
    return [path for path in ours.keys() | theirs.keys() if ours.get(path) is None or ours.get(path) != theirs.get(path)]


def _differing_records(a: LaneTrace, b: LaneTrace) -> tuple[list[Reach], bool]:
    """What the records of a lane that differ show to be reached, and whether one of them lies in the training or writes what it uses."""
    what_a, rows_a = a.compared
    what_b, rows_b = b.compared
    if len(what_a) == len(what_b) and bool((what_a == what_b).all()):
        return [], False
    sides = lanes_as_columns(a, b)
    keys = [
        side.step[rows] * np.int64(0x9E3779B1) ^ what.view(np.int64)
        for side, (what, rows) in zip(sides, (a.compared, b.compared), strict=True)
    ]
    kinds: list[Reach] = []
    touches = False
    only = _without_counterpart(*keys)
    holds_parameters = any("parameters" in event for lane in (a, b) for event in lane.events_of("step"))
    for side, rows, alone in zip(sides, (rows_a, rows_b), only, strict=True):
        differing = rows[alone]
        touches = touches or _in_training(side, differing) or (not holds_parameters and _mixes(side, differing))
        names = [side.name(int(row)) for row in differing[:2_000]]
        if any(name.startswith(COLLECTIVES) for name in names) or _received(side, differing):
            kinds.append("collective")
        if any(not meta.device for row in differing[:2_000].tolist() for meta in side.metas(row)):
            kinds.append("number")
    return kinds, touches


def _without_counterpart(a: Array, b: Array) -> tuple[Array, Array]:
    """Of each entry of two lists whether the other has fewer or more that are equal to it."""
    values, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(values)) for part in (codes[: len(a)], codes[len(a) :])]
    unequal = counts[0] != counts[1]
    return unequal[codes[: len(a)]], unequal[codes[len(a) :]]


def _in_training(side: Columns, rows: Array) -> bool:
    """Whether records lie in a module, a backward pass or an optimizer, or write memory that one of these uses."""
    used = side.in_module | (side.phase >= BACKWARD)
    if used[rows].any():
        return True
    writes = rows[(side.kind[rows] == 1) & side.in_place[rows]]
    if not len(writes):
        return False
    if (side.before[writes] < 0).any():
        return True  # it is not known whose memory that is
    given = side.inputs[used]
    roots = side.root[given[given >= 0]]
    listed = np.flatnonzero(used & side.listed).tolist()
    more = [one for row in listed for one in side.given(row) if one >= 0]
    return bool(np.isin(side.root[writes], np.concatenate([roots, side.root[np.array(more, np.int64)]])).any())


def _mixes(side: Columns, rows: Array) -> bool:
    """Whether one of some records was given what another record made; where nobody holds the parameters, it may be one of them."""
    known = set(rows.tolist())
    return any(row not in known for one in rows.tolist() for row in side.given(one) if row != -1)


def _received(side: Columns, rows: Array) -> bool:
    """Whether an external tensor among some records is the first record behind a collective."""
    externals = rows[(side.kind[rows] == 2) & (rows > 0)]
    return any(side.name(int(row) - 1).startswith(COLLECTIVES) for row in externals[:2_000])


def next_by_itself(first: Mismatch, lane: LaneTrace, counterpart: LaneTrace, step: int | None) -> Mismatch | None:
    """The first mismatch behind one that reaches nothing, of a kind that needs no cause before it; `step`: the first that differs.

    None where the training differs for no such reason, or may differ because of the first mismatch: then that one is what there is.
    """
    if first.a is None or first.b is None or first.kind in ("structure", "failed"):
        return None
    (what_a, rows_a), (what_b, rows_b) = lane.compared, counterpart.compared
    both = min(len(what_a), len(what_b))
    sides = lanes_as_columns(lane, counterpart)
    same_op = sides[0].op[rows_a[:both]] == sides[1].op[rows_b[:both]]
    end = both if same_op.all() else int(np.argmin(same_op))
    differing = first.index + 1 + np.flatnonzero(what_a[first.index + 1 : end] != what_b[first.index + 1 : end])
    cone = [int(rows_a[first.index])]  # of the first mismatch, and of those that are of a kind that needs a cause before it
    tainted = set(cone)
    chosen: Mismatch | None = None
    apart: set[int] = set()  # what follows from the chosen one alone
    classified = 0
    for index in differing[:_LOOKED_THROUGH].tolist():
        row = int(rows_a[index])
        given = sides[0].given(row)
        if tainted.isdisjoint(given):
            if not apart.isdisjoint(given):
                apart.add(row)
                continue
            classified += 1
            if chosen is not None and classified > _CLASSIFIED:
                break
            found = mismatch_at(index, lane, counterpart)
            if found.kind in ("draw", "kernel", "uninitialized", "hidden-write") and _entered_before(found, first, lane, counterpart):
                chosen = chosen or found
                apart.add(row)
                continue
        cone.append(row)
        tainted.add(row)
    late = chosen is None or (step is not None and chosen.a is not None and (chosen.a.step or 0) > step)
    return None if late or _in_training(sides[0], np.array(cone, np.int64)) else chosen


def _entered_before(found: Mismatch, first: Mismatch, lane: LaneTrace, counterpart: LaneTrace) -> bool:
    """Whether a mismatch owes nothing to one before it: a stream that it draws from was in another state before that."""
    entered = origin(found.kind, found, lane, counterpart)
    return entered is None or entered.row <= first.row_a
