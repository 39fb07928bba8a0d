"""The ops around a divergence: those just before it, and the first that carry the difference on."""

from __future__ import annotations

from typing import Any

import numpy as np

from auditor.compare.mismatch import Mismatch
from auditor.results import OpLine
from auditor.trace.reader import LaneTrace
from auditor.trace.records import Record

_BEFORE = 3
_CARRIERS = 3
#: Rows looked through for carriers. A difference that is not used within so many ops is not worth a line.
_WINDOW = 4000


def context(mismatch: Mismatch, lane: LaneTrace, counterpart: LaneTrace) -> tuple[list[OpLine], list[OpLine], int | None, int | None]:
    """Ops before the mismatch, carriers behind it, and how many of how many compared ops behind it differ."""
    what_a, rows_a = lane.compared
    what_b, rows_b = counterpart.compared
    index = mismatch.index
    first = max(index - _BEFORE, 0)
    before = []
    if index > first:
        wanted = set(rows_a[first:index].tolist())
        before = [_line(first + k, row) for k, row in enumerate(r for r in lane.rows(min(wanted), max(wanted)) if r.row in wanted)]
    if mismatch.a is None or mismatch.b is None:
        return before, [], None, None
    both = min(len(what_a), len(what_b))
    differs = what_a[index:both] != what_b[index:both]
    end = min(both, index + _WINDOW)
    carriers = (
        _carriers(mismatch, lane, rows_a[index:end], rows_b[index:end], differs[: end - index], counterpart) if end > index + 1 else []
    )
    return before, carriers, int(np.count_nonzero(differs)), int(both - index)


def _carriers(mismatch: Mismatch, lane: LaneTrace, rows_a: Any, rows_b: Any, differs: Any, counterpart: LaneTrace) -> list[OpLine]:
    """The first ops that differ and take in what a differing op made, while both lanes still do the same ops."""
    ours = {row.row: row for row in lane.rows(int(rows_a[0]), int(rows_a[-1]))}
    theirs = {row.row: row for row in counterpart.rows(int(rows_b[0]), int(rows_b[-1]))}
    tainted = {int(rows_a[0])}
    found: list[OpLine] = []
    for k in range(1, len(rows_a)):
        row, other = ours[int(rows_a[k])], theirs[int(rows_b[k])]
        if row.op != other.op:
            break  # from here on the two lanes are not doing the same
        if differs[k] and not tainted.isdisjoint(row.made_by):
            tainted.add(row.row)
            found.append(_line(mismatch.index + k, row, differs=True))
            if len(found) == _CARRIERS:
                break
    return found


def _line(index: int, row: Record, differs: bool = False) -> OpLine:
    return OpLine(
        index=index, op=row.op, phase=row.phase or "", step=row.step, differs=differs, file=row.file, line=row.line,
        function=row.function, code=row.code,
    )  # fmt: skip
