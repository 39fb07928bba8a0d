"""What value capture kept, measured: how inputs and outputs of the divergent op differ, and what that makes of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.compare.mismatch import Mismatch, interruption_before
from auditor.results import Difference, Evidence, Kind, Reason
from auditor.trace.ops import ADOPTING
from auditor.trace.reader import LaneTrace, Trace
from auditor.trace.records import Record

Array = npt.NDArray[Any]

#: torch dtype -> numpy dtype of the same width; the two that numpy lacks are widened after reading.
_DTYPES = {
    "float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "i1",
    "uint8": "u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8", "bool": "?", "complex64": "<c8", "complex128": "<c16",
}  # fmt: skip


def evidence_at(mismatch: Mismatch, lane: LaneTrace, counterpart: LaneTrace, a: Trace, b: Trace) -> Evidence | None:
    """The values kept at the divergent op, compared; None if no values were captured there."""
    if mismatch.a is None or mismatch.b is None:
        return None
    ours, theirs = _values(lane, mismatch.a), _values(counterpart, mismatch.b)
    if not ours or not theirs:
        return None
    inputs: list[Difference] = []
    outputs: list[Difference] = []
    births = [{entry["slot"]: entry for entry in side if entry["slot"].startswith("birth")} for side in (ours, theirs)]
    others = {entry["slot"]: entry for entry in theirs}
    for entry in ours:
        slot = entry["slot"]
        if slot.startswith("birth") or slot not in others:
            continue
        birth_slot = slot.replace("in", "birth")
        born = [(side.get(birth_slot)) for side in births]
        difference = _difference(entry, others[slot], a, b, born)
        (outputs if slot.startswith("out") else inputs).append(difference)
    return Evidence(runs=[a.id, b.id], inputs=inputs, outputs=outputs)


def _values(lane: LaneTrace, row: Record) -> list[dict[str, Any]]:
    """Values at an op; for an external tensor those of the op that took it in."""
    kept = lane.values_at(row.row)
    if kept or not row.is_external:
        return kept
    for later in range(row.row + 1, row.row + 70):
        kept = lane.values_at(later)
        if kept:
            return kept
    return []


def refined(mismatch: Mismatch, evidence: Evidence | None, lane: LaneTrace, counterpart: LaneTrace) -> tuple[Kind, list[Reason]]:
    """Kind and explanation in the light of the evidence; the first look's where there is none."""
    kind, reasons = mismatch.kind, list(mismatch.reasons)
    if evidence is None or mismatch.a is None:
        return kind, reasons
    changed = [d for d in evidence.inputs if d.differs]
    if kind in ("data", "data-order"):
        adopted = evidence.outputs if mismatch.a.op.startswith(ADOPTING) else changed
        if kind == "data" and any(d.rows_permuted for d in adopted):
            return "data-order", [Reason.of("other-row-order")]
        return kind, reasons
    exact = kind == "hidden-write" and mismatch.a.kind == "op"
    told = exact or kind in ("kernel", "uninitialized", "draw")
    if not told and not (mismatch.on_other_tensors and evidence.inputs and not changed):
        return kind, reasons
    if not changed:
        if kind == "draw":
            return kind, [*reasons, Reason.of("same-inputs")]
        if exact:
            return kind, [Reason.of("same-inputs-before"), *reasons]
        return "kernel", [Reason.of("other-result")]
    if kind == "draw":
        return kind, reasons
    if any(d.never_written for d in changed):
        return "uninitialized", [Reason.of("read-before-written", inputs=_slots(changed))]
    interruption = interruption_before(mismatch.a, mismatch.b, lane, counterpart) if mismatch.b is not None else None
    return "hidden-write", [Reason.of("inputs-changed", inputs=_slots(changed), **(interruption or {}))]


def _slots(changed: list[Difference]) -> list[str | int | float | None]:
    return [d.slot.removeprefix("in") for d in changed]


def _difference(a: dict[str, Any], b: dict[str, Any], run_a: Trace, run_b: Trace, births: list[dict[str, Any] | None]) -> Difference:
    """Measure one pair of tensors."""
    shape = a.get("shape", [])
    difference = Difference(
        slot=a["slot"], dtype=a.get("dtype", ""), shape=shape, of=prod(shape),
        differs=any(a.get(key) != b.get(key) for key in ("digest", "dtype", "shape")),
    )  # fmt: skip
    if not difference.differs:
        return difference
    if shape != b.get("shape", []) or a.get("dtype") != b.get("dtype"):
        difference.note = Reason.of("unlike-tensors", a=f"{a.get('dtype')}{shape}", b=f"{b.get('dtype')}{b.get('shape')}")
        return difference
    x, y = (array_of(run.value(entry), entry) for run, entry in ((run_a, a), (run_b, b)))
    if x is None or y is None:
        difference.note = Reason.of("values-not-kept")
        return difference
    measure(difference, x, y)
    born = [array_of(run.value(entry), entry) if entry else None for run, entry in zip((run_a, run_b), births, strict=True)]
    if born[0] is not None and born[1] is not None and born[0].shape == x.shape:
        difference.never_written = not (_unequal(x, y) & (_unequal(x, born[0]) | _unequal(y, born[1]))).any()
    return difference


def array_of(data: bytes | None, entry: dict[str, Any]) -> Array | None:
    """The kept bytes of a tensor as an array of its dtype and shape; bfloat16 as float32. None if that cannot be."""
    dtype = _DTYPES.get(entry.get("dtype", ""))
    if data is None or dtype is None:
        return None
    shape = entry["shape"]
    if len(data) != prod(shape) * np.dtype(dtype).itemsize:
        return None  # the disk was full, or the process was killed while it wrote
    array: Array = np.frombuffer(data, dtype).reshape(shape)
    if entry["dtype"] == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _unequal(x: Array, y: Array) -> npt.NDArray[np.bool_]:
    """Where two arrays of one dtype hold other bytes: nan equals itself, and 0.0 differs from -0.0."""
    words = np.dtype(f"<u{min(x.dtype.itemsize, 8)}")
    different = [np.asarray(array, order="C")[..., None].view(words) for array in (x, y)]
    return (different[0] != different[1]).any(-1)  # type: ignore[no-any-return]  # numpy's any() is Any


def measure(difference: Difference, x: Array, y: Array) -> None:
    """Fill in how many elements differ and by how much.

    Relative is |x-y| / max(|x|, |y|), 0 where both are 0. ULP is the distance in the ordered list of all values of the dtype, after
    mapping sign-magnitude to a monotone integer (Bruce Dawson, Comparing Floating Point Numbers, 2012).
    """
    kind = x.dtype.kind
    unequal = _unequal(x, y)
    where = np.argwhere(unequal)
    difference.elements = len(where)
    if not len(where):
        return
    at = tuple(int(i) for i in where[0])
    difference.first = list(at)
    difference.a, difference.b = (_text(value, difference.dtype) for value in (x[at], y[at]))
    xs, ys = x[unequal], y[unequal]
    if kind in "iu":
        gaps = _distance(xs, ys)
        sizes = np.maximum(*(np.abs(side.astype(np.float64)) for side in (xs, ys)))
        difference.absolute = float(gaps.max())
        difference.relative = float((gaps / sizes).max())
    elif kind in "fc":
        xs, ys = (side.astype(np.complex128 if kind == "c" else np.float64) for side in (xs, ys))
        with np.errstate(all="ignore"):
            gap = np.abs(xs - ys)
            size = np.maximum(np.abs(xs), np.abs(ys))
            # halved, so that the distance of two large numbers of opposite sign does not overflow
            ratio = np.where(size > 0, np.where(np.isinf(gap), np.abs(xs / 2 - ys / 2) / (size / 2), gap / size), 0.0)
        difference.absolute = _largest(gap)
        difference.relative = _largest(ratio)
        finite = np.isfinite(xs) & np.isfinite(ys)
        if not finite.all():
            difference.note = Reason.of("not-finite", elements=int((~finite).sum()))
        if kind == "f" and finite.any():
            ordered = [_ordered(side[unequal][finite], difference.dtype) for side in (x, y)]
            difference.ulp = int(_distance(*ordered).max())
    difference.rows_permuted = rows_permuted(x, y)


def _distance(x: Array, y: Array) -> npt.NDArray[np.uint64]:
    """|x - y| of integers, exactly: the distance of two 64-bit integers need not fit into one that has a sign."""
    low, high = np.minimum(x, y), np.maximum(x, y)
    return high.astype(np.uint64) - low.astype(np.uint64)


def _ordered(values: Array, dtype: str) -> Array:
    """Floats as integers in the same order, one apart for neighbours."""
    bits = values.view(f"<i{values.dtype.itemsize}").astype(np.int64)
    if dtype == "bfloat16":
        bits >>= 16
    width = 16 if dtype in ("bfloat16", "float16") else values.dtype.itemsize * 8
    lowest = -(1 << (width - 1))
    ordered: Array = np.where(bits < 0, lowest - bits, bits)
    return ordered


def _largest(values: Array) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else None


def _text(value: Any, dtype: str) -> str:
    if dtype == "bfloat16":
        return f"{float(value):.4g}"
    return str(value.item()) if dtype == "float64" else str(value)


def rows_permuted(x: Array, y: Array) -> bool:
    """Whether `y` has the rows (entries along the first dimension) of `x` in another order."""
    if x.ndim == 0 or x.shape[0] < 2 or x.shape != y.shape:
        return False
    return sorted(_rows(x)) == sorted(_rows(y))


def _rows(array: Array) -> Iterator[bytes]:
    return (row.tobytes() for row in np.ascontiguousarray(array))
