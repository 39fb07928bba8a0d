"""What was not the same in two runs on different devices and is no matter of arithmetic: data, random streams, the ops that were done."""

from __future__ import annotations

import numpy as np

from auditor.compare.align import Ints
from auditor.compare.columns import Array, Columns
from auditor.compare.drift import Pair
from auditor.compare.mismatch import forward_place
from auditor.results import Detail, Divergence, Kind, Reason
from auditor.tolerance import unit_roundoff

#: Ops in a row on lines that the other run was not at, from which on it did something else.
_BRANCH = 32


def other_than_arithmetic(pair: Pair) -> Divergence | None:
    """The first difference that is none of arithmetic; its index is that of the op of the first run at, or behind, which it is."""
    seen: list[tuple[int, Kind, int, int, Reason]] = []
    for kind, where, reason in (
        ("draw", pair.drawn_otherwise & pair.differs, Reason.of("other-stream-state")),
        ("data", _data(pair), Reason.of("other-external-values")),
    ):
        if where.any():
            at = int(np.argmax(where))
            seen.append((int(pair.rows_a[at]), kind, 0, int(pair.rows_a[at]), reason))  # type: ignore[arg-type]
    end = _end_of_one(pair)
    branch = _branch(pair, end is not None)
    if branch is not None:
        side, row, many = branch
        reason = Reason.of("branch-of-one", ops=many, device=pair.devices[side])
        seen.append((int(pair.place(side, np.array([row]))[0]), "structure", side, row, reason))
    if end is not None:
        seen.append(end)
    if not seen or not len(pair.a):
        return None
    behind, kind, side, row, reason = min(seen, key=lambda one: one[0])
    record = pair.record(side, row)
    return Divergence(
        runs=[run.id for run in pair.runs], kind=kind, lane=pair.name, index=int(pair.a.index[behind]), reasons=[reason],
        detail=Detail(forward=forward_place(record), row=row),
        op=record.op, phase=record.phase or "", step=record.step, module=record.module, file=record.file, line=record.line,
        function=record.function, code=record.code,
    )  # fmt: skip


def _data(pair: Pair) -> Array:
    """Of each pair whether it is data that came in with other values, and not what arithmetic made of equal ones.

    Results of code that is not seen (compiled kernels, NumPy) come in as data and differ by what they inherited; half of the digits
    of their dtype, and a hundred times what was inherited before, are more than that.
    """
    external = (pair.a.kind[pair.rows_a] == 2) & pair.differs
    found = np.zeros(len(external), bool)
    known = np.nan_to_num(pair.drift)
    before = np.maximum.accumulate(np.where(external, 0.0, known)) if len(known) else known
    for k in np.flatnonzero(external).tolist():
        metas = pair.a.metas(int(pair.rows_a[k]))
        u = unit_roundoff(metas[0].dtype) if metas else 0.0
        unknown = bool(np.isnan(pair.drift[k]))
        if not pair.differs[:k].any() or (unknown and before[k] == 0):
            found[k] = unknown or known[k] > u**0.5
        else:
            found[k] = not unknown and known[k] > max(u**0.5, 100 * before[k])
    return found


def _branch(pair: Pair, one_ended: bool) -> tuple[int, int, int] | None:
    """Where one run first did a long stretch on lines at which the other is not in that step: run, row, ops; of both, the first run.

    A stretch on the same lines is another implementation of the same, and no branch; nor is what a run did after the other had ended
    (`one_ended`), which has nothing to be compared with.
    """
    found = []
    for side, (ours, theirs, pair_of) in enumerate(((pair.a, pair.b, pair.pair_of_a), (pair.b, pair.a, pair.pair_of_b))):
        lonely = ours.compared[pair_of[ours.compared] < 0]
        if not len(lonely):
            continue
        lonely = lonely[np.isin(ours.step[lonely], theirs.step[theirs.compared])]
        lonely = lonely[~np.isin(_places(ours, lonely), _places(theirs, theirs.compared))]
        # in a row: no pair between one and the next
        before = np.searchsorted((pair.rows_a, pair.rows_b)[side], lonely)
        gaps, first, many = np.unique(before, return_index=True, return_counts=True)
        long = np.flatnonzero((many >= _BRANCH) & ((gaps < len(pair.rows_a)) | (not one_ended)))[:1].tolist()
        found += [(int(gaps[k]), side, int(lonely[first[k]]), int(many[k])) for k in long]
    return min(found)[1:] if found else None


def _end_of_one(pair: Pair) -> tuple[int, Kind, int, int, Reason] | None:
    """Where one run went on and the other had ended: place in the first run, kind, run, row, reason.

    Workers that run ahead are stopped at no particular op, and a device may do a few ops more to hand its results back.
    """
    steps = pair.a.lane.steps, pair.b.lane.steps
    failed = [run.meta.get("exit") not in (0, None) for run in pair.runs]
    if pair.a.lane.key.worker is not None or pair.a.lane.key.thread is not None or (steps[0] == steps[1] and failed[0] == failed[1]):
        return None
    short = (0 if failed[0] else 1) if steps[0] == steps[1] else int(steps[1] < steps[0])
    longer = 1 - short
    side, pairs = (pair.a, pair.b)[longer], (pair.rows_a, pair.rows_b)[longer]
    rows = side.compared[side.compared > (pairs[-1] if len(pairs) else -1)]
    if not len(rows):
        return None
    reason = Reason.of(
        "ended-on-device", run=pair.runs[short].id, device=pair.devices[short], step=steps[short],
        error=pair.runs[short].meta.get("error") if failed[short] else None,
    )  # fmt: skip
    return int(pair.place(longer, rows[:1])[0]), "failed" if failed[short] else "structure", longer, int(rows[0]), reason


def _places(side: Columns, rows: Ints) -> Array:
    """Line and step of each of these records in one number."""
    found: Array = side.site[rows] ^ (side.step[rows].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return found
