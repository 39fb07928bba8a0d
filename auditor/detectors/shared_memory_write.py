"""In-place ops on a tensor that shares its memory with a named NumPy array."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

#: An array with a name of its own can be used again; those of `from_numpy(a.copy())` and `from_numpy(np.stack(b))` cannot.
_SHARES = re.compile(r"\b(?:from_numpy|from_dlpack)\(\s*([A-Za-z_][\w.]*(?:\[\w+\])?)\s*\)")


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per line that is the first to write into such memory.

    That the memory belongs to an array is known from the text of the line where the tensor was first seen: memory of a list, of a
    checkpoint or of another process looks the same in the trace. `x = from_numpy(x)` gives no hit, because nothing can use the array
    afterwards.
    """
    rows = runs[0].query(
        r"""SELECT w.file, w.line, w.op, e.file AS made_file, e.line AS made_line, e.code AS made, count(DISTINCT e."row") AS tensors,
            min(w."row") AS moment
        FROM writes w JOIN records e ON e.lane = w.lane AND e."row" = w.in0
        WHERE w.line IS NOT NULL
            AND e.kind = 'external' AND regexp_matches(e.code, 'from_numpy\(|from_dlpack\(')
        GROUP BY ALL ORDER BY moment"""
    )
    told: dict[tuple[str, int], Hit] = {}
    for row in rows:
        shared = _SHARES.search(row["made"])
        if shared is None or re.match(rf"(?:self\.)?{re.escape(shared[1])}\s*=[^=]", row["made"]):
            continue
        place = (row["file"], row["line"])
        values = {
            "op": row["op"], "array": shared[1], "made_at": f"{row['made_file']}:{row['made_line']}", "subject": shared[1],
        }  # fmt: skip
        before = told.get(place)
        told[place] = Hit(*place, before.values if before else values, row["tensors"] + (before.count if before else 0))
    yield from told.values()


DETECTOR = Detector("shared-memory-write", _find, Params, frozenset({"op", "array", "made_at"}))
