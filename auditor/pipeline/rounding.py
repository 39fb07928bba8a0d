"""Whether two runs that round differently end with results that differ by more than rounding.

They do if the script decided differently, and so did other ops or got other integers or truth values; or if a loss has lost half of the
digits of the dtype that the script computes in. Where there is no loss it is the numbers that are printed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from auditor.results import Reason
from auditor.tolerance import unit_roundoff
from auditor.trace.reader import LaneTrace, Trace

_FLOATS = re.compile(r"float64|float32|float16|bfloat16")
_SIGNATURES = """SELECT count(*) AS ops, bit_xor(hash(i, op, args, out)) AS signature FROM (
    SELECT op, args, out, row_number() OVER (ORDER BY "row") AS i FROM records WHERE kind = 'op')"""
#: Results that are no floating-point numbers: decisions. The second result of a pooling is none, it only says where the first came from.
#: Nor are bytes that are copied: `copy.deepcopy` of a tensor copies its memory so, whatever is in it.
_DECISIONS = """SELECT count(*) AS decisions, bit_xor(hash(i, digest)) AS found FROM (
    SELECT digest, out, op = 'aten.copy_.default' AND starts_with(out, '[["uint8"') AS copies_bytes,
        row_number() OVER (ORDER BY "row") AS i FROM records WHERE kind = 'op')
    WHERE regexp_matches(out, '^\\[\\["u?(int|bool)') AND NOT copies_bytes"""
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\bnan\b|\binf\b")


class Drift(NamedTuple):
    """How far results of two runs are apart at most, relative to the largest of them, and the last of them in either run."""

    size: float
    a: str
    b: str
    printed: bool
    """Whether they are numbers that the script prints, and not losses."""

    @property
    def reason(self) -> Reason:
        """What it comes to in the end."""
        return Reason.of("last-number", a=self.a, b=self.b) if self.printed else Reason.of("last-loss", a=self.a, b=self.b)


def decided_differently(a: Trace, b: Trace) -> bool:
    """Whether a lane did other ops, or got other integers or truth values."""
    pairs = [(lane, b.lanes[name]) for name, lane in a.lanes.items() if name in b.lanes]
    return any(x.query(sql) != y.query(sql) for x, y in pairs for sql in (_SIGNATURES, _DECISIONS))


def drift_of_losses(a: Trace, b: Trace) -> Drift | None:
    """Of the losses of the main lanes; None where there are none."""
    return _drift(list(zip(_losses(a), _losses(b), strict=False)), printed=False)


def drift_of_output(a: Trace, again: Trace, b: Trace) -> Drift | None:
    """Of the numbers that two runs print and that are the same in a second run of the first; None where the rest of the text differs."""
    texts = [(run.printed("stdout") or b"").decode(errors="replace") for run in (a, again, b)]
    numbers = [[float(found) for found in _NUMBER.findall(text)] for text in texts]
    if len({_NUMBER.sub("", text) for text in texts}) > 1:
        return None
    pairs = [(x, y) for x, z, y in zip(*numbers, strict=True) if x == z]
    differing = [pair for pair in pairs if pair[0] != pair[1]]
    return _drift([*pairs, *differing[-1:]], printed=True) if differing else None


def due(run: Trace) -> float:
    """Half of the digits of the coarsest floating-point dtype that the script computes in, as a relative difference."""
    found = {dtype for lane in run.lanes.values() for dtype in _dtypes(lane)}
    return math.sqrt(max((unit_roundoff(dtype) for dtype in found), default=unit_roundoff("float32")))


def _drift(pairs: list[tuple[float, float]], printed: bool) -> Drift | None:
    if not pairs:
        return None
    scale = max((abs(value) for pair in pairs for value in pair if math.isfinite(value)), default=0.0)
    a, b = (f"{value:.9g}" for value in pairs[-1])
    return Drift(max(_apart(x, y) for x, y in pairs) / (scale or 1.0), a, b, printed)


def _apart(x: float, y: float) -> float:
    if x == y or (math.isnan(x) and math.isnan(y)):
        return 0.0
    return abs(x - y) if math.isfinite(x - y) else math.inf


def _losses(run: Trace) -> list[float]:
    return [float(event["loss"]) for event in run.main.events_of("step") if event.get("loss") is not None] if run.main is not None else []


def _dtypes(lane: LaneTrace) -> Iterator[str]:
    for row in lane.query("SELECT DISTINCT out FROM records WHERE kind = 'op' AND out LIKE '%float%'"):
        yield from _FLOATS.findall(row["out"])
