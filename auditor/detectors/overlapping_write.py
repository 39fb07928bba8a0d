"""Writes into a view whose elements share memory, as `expand`, `unfold` and `as_strided` create it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import gcd
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit
from auditor.trace.records import Output, outputs_of

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

#: They write the same value everywhere, so writing an element twice does not matter.
_ONE_VALUE = ("aten.fill_.", "aten.zero_.")
#: They write one value where a mask or an index says: with overlapping windows that may be intended, with `expand` it defeats the mask.
_ONE_VALUE_HERE_AND_THERE = ("aten.masked_fill_.", "aten.index_fill_.")


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per line. An overlap is reported only if it is certain, so one that only three dimensions together cause is missed."""
    rows = runs[0].query(
        r"""SELECT file, line, op, out, first(code ORDER BY lane, "row") AS code, count(*) AS writes, min("row") AS moment
        FROM records WHERE kind = 'op' AND phase <> 'backward' AND line IS NOT NULL AND contains(out, '],[')
            AND (in_place AND NOT view OR regexp_matches(op, '\.(\w+_)?out$'))
        GROUP BY file, line, op, out ORDER BY moment"""
    )
    found: dict[tuple[str, int], tuple[dict[str, object], int]] = {}
    for row in rows:
        how = next(filter(None, (_overlap(row["op"], output) for output in outputs_of(row["out"]))), None)
        if how is None:
            continue
        place = (row["file"], row["line"])
        values, writes = found.get(place, ({"op": row["op"], "how": how, "subject": row["op"]}, 0))
        found[place] = values, writes + row["writes"]
    for (file, line), (values, writes) in found.items():
        yield Hit(file, line, values, writes)


def _overlap(op: str, output: Output) -> str | None:
    """How the elements of a view share memory, as a clause, if they certainly do and the op makes it matter."""
    shape, stride = list(output.shape), list(output.stride or ())
    if not stride or 0 in shape or op.startswith(_ONE_VALUE):
        return None
    dims = [(size, step) for size, step in zip(shape, stride, strict=True) if size > 1]
    times = 1
    for size, step in dims:
        times *= size if step == 0 else 1
    if times > 1:
        return f"{times} elements of the view share each element of memory (stride 0, as from expand)"
    if op.startswith(_ONE_VALUE_HERE_AND_THERE):
        return None
    for (size, step), (other_size, other_step) in permutations(dims, 2):
        common = gcd(step, other_step)
        # so many steps along one dimension lead to where so many steps along the other lead
        if other_step // common < size and step // common < other_size:
            return f"elements of the view share memory (shape {shape}, stride {stride}, as from unfold and as_strided)"
    return None


DETECTOR = Detector("overlapping-write", _find, Params, frozenset({"op", "how"}))
