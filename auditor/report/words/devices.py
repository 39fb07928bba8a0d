"""What is said of devices that were compared, of ops that were recomputed, and of errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auditor.report.words.text import EIGHTHS, INFINITE, counted, listed, op_name, place, plain
from auditor.results import CurvePoint, DeviceComparison, OpError, Shadowed

#: Most ops that are named as not measured.
_NAMED = 3
#: Units in the last place from which on a correct result is one of cancellation.
_MANY_ULPS = 64.0


def devices_title(comparison: DeviceComparison) -> str:
    """What was compared."""
    return " compared with ".join(map(plain, comparison.devices))


def shadow_title(shadow: Shadowed) -> str:
    """What each op was compared with, and how many were."""
    return f"Each op compared with {plain(shadow.reference)}: {counted(shadow.ops, 'op')} recomputed"


def unmeasured(ops: dict[str, int]) -> str:
    """The ops whose own error is not known, the most frequent first; nothing if there are none."""
    most = sorted(ops.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{plain(name)} ({count:,})" for name, count in most[:_NAMED]]
    rest = f"{len(most) - _NAMED} more" if len(most) > _NAMED else ""
    return listed([*shown, *filter(None, [rest])]) if most else ""


def error_rows(most: Sequence[OpError]) -> list[tuple[str, ...]]:
    """The heads and the rows of the errors that some ops introduced; columns in which nothing is known are left out.

    Behind the line and the op: the norm of the error relative to that of the result, the error in ULPs in the mean and at most, whether it
    is within its error bound, how far the devices are apart there, and how often the line did the op.
    """
    heads = ("largest introduced error", "op", "error", "ULP", "worst", "error bound", "drift", "times")
    rows = [
        (
            _error_place(one), op_name(one.op).removesuffix(".default"), _tiny(one.added), _ulps(one, one.mean_ulps), _ulps(one, one.ulps),
            _bound(one.excess), _tiny(one.drift), f"{one.times:,}" if one.times > 1 else "",
        )
        for one in most
    ]  # fmt: skip
    shown = [k for k in range(len(heads)) if k < 2 or any(row[k] for row in rows)]
    return [tuple(row[k] for k in shown) for row in (heads, *rows)]


#: What stands below a table in which something is `_cancelled`.
CANCELLED = "* elements that cancel nearly to zero, in their own ULPs: within the error bound of the cancellation"


def is_cancelled(one: OpError) -> bool:
    """Whether an error is large only in units of results that cancel nearly to zero."""
    return one.ulps is not None and one.ulps > _MANY_ULPS and one.excess is not None and one.excess <= 1


def _ulps(one: OpError, value: float | None) -> str:
    if value is not None and value > _MANY_ULPS and is_cancelled(one):
        return "*"
    return _size(value)


def _bound(excess: float | None) -> str:
    """Below 1 an excess is itself only a bound: the error bound is refined until it suffices."""
    if excess is None:
        return ""
    return "within" if excess <= 1 else "bound is 0" if excess >= INFINITE else f"{_size(excess)} times"


def _tiny(value: float | None) -> str:
    return "" if value is None else "0" if value == 0 else "∞" if value >= INFINITE else f"{value:.1e}"


def _size(value: float | None) -> str:
    """A positive number to two digits, without an exponent where it is of ordinary size."""
    if value is None or value >= INFINITE:
        return "" if value is None else "∞"
    return f"{value:,.0f}" if 99.5 <= value < 1e7 else f"{value:.2g}"


def _error_place(one: OpError) -> str:
    """The line of an op; of a backward op that of its forward op, which says more."""
    forward = one.forward
    if forward is not None and forward.file:
        return f"{place(forward.file, forward.line)} backward"
    return place(one.file, one.line) if one.file else ""


@dataclass(frozen=True)
class Chart:
    """Bars on a logarithmic scale: rows of (label, bars), the highest first; and the columns of the marked ops."""

    rows: list[tuple[str, str]]
    axis: str
    marks: str


def chart(curve: Sequence[CurvePoint], columns: int, marked: int | None = None, height: int = 6) -> Chart | None:
    """How a drift goes along a run, each column being the largest of its ops; None if there is no drift. `marked`: index of an op."""
    if not any(point.drift > 0 for point in curve):
        return None
    first, last = curve[0].index, max(curve[-1].index, curve[0].index + 1)
    bars = [0.0] * columns

    def column(index: int) -> int:
        return min(int((index - first) / (last - first) * columns), columns - 1)

    for point in curve:
        bars[column(point.index)] = max(bars[column(point.index)], min(point.drift, 1e300))
    logs = [math.log10(bar) if bar > 0 else None for bar in bars]
    known = [value for value in logs if value is not None]
    low, high = math.floor(min(known)), math.ceil(max(known))
    high = max(high, low + 1)
    eighths = [None if value is None else max(round((value - low) / (high - low) * height * 8), 1) for value in logs]
    rows = []
    for row in range(height, 0, -1):
        cells = "".join(" " if n is None else EIGHTHS[min(max(n - (row - 1) * 8, 0), 8)] for n in eighths)
        label = f"1e{high}" if row == height else f"1e{low}" if row == 1 else ""
        rows.append((label, cells))
    ends = f"op {first:,}", f"op {curve[-1].index:,}" + (f" (step {curve[-1].step})" if curve[-1].step else "")
    axis = ends[0] + ends[1].rjust(columns - len(ends[0]))
    marks = "" if marked is None or not first <= marked <= last else " " * column(marked) + "▲"
    return Chart(rows, axis, marks)
