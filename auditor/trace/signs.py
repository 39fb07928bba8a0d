"""The signed sums of `record/observers/sketches.py` in NumPy, which is handed in: the recorder and the reader must make the same ones.

Never imports NumPy: a script that does not have it, or has not yet imported it, is not to get it from us.
"""

from __future__ import annotations

from typing import Any

from auditor.trace import SUMS

#: Elements of a row: what lies in one is summed up with the same turn.
PERIOD = 4096
_WIDTH = PERIOD // SUMS
#: What the signs of the elements of a row, those of the rows, and the order in which elements are dealt to the sums begin with.
ELEMENTS, ROWS, ORDER = 0x5851F42D4C957F2D, 0x14057B7EF767814F, 0x2545F4914F6CDD1D
#: Rows of PERIOD elements that are summed up at once: 8 MB.
_BLOCK = 256

_made: dict[str, Any] = {}


def matrix(np: Any) -> Any:
    """Shape [PERIOD, SUMS]: the sums of n elements, at most PERIOD of them, are the product of their row vector with the first n rows."""
    if "matrix" not in _made:
        made = np.zeros((PERIOD, SUMS))
        order = _mixed(np, PERIOD, ORDER).argsort(kind="stable")
        made[order, np.arange(PERIOD) % SUMS] = _signs(np, PERIOD, ELEMENTS)[order]
        _made["matrix"] = made
    return _made["matrix"]


def plain(np: Any, values: Any) -> Any:
    """Elements in logical order as one dimension of float64; complex ones as pairs."""
    flat = values.reshape(-1)
    return np.ascontiguousarray(flat).view(flat.real.dtype).astype(np.float64) if flat.dtype.kind == "c" else flat.astype(np.float64)


def sums_of(np: Any, flat: Any) -> Any:
    """The SUMS sums of finite float64 elements, of any number of them."""
    n = len(flat)
    known = matrix(np)
    if n <= PERIOD:
        return flat @ known[:n]
    whole = n // PERIOD
    turns = _signs(np, (whole + 1) * SUMS, ROWS).reshape(-1, SUMS)
    signed = np.zeros((SUMS, _WIDTH))
    for first in range(0, whole, _BLOCK):
        rows = flat[first * PERIOD : min(first + _BLOCK, whole) * PERIOD].reshape(-1, SUMS, _WIDTH)
        signed += np.einsum("ik,ikj->kj", turns[first : first + len(rows)], rows)
    signed = signed.reshape(-1)
    rest = flat[whole * PERIOD :]
    signed[: len(rest)] += turns[whole].repeat(_WIDTH)[: len(rest)] * rest
    return signed @ known


def sketch(np: Any, values: Any) -> tuple[float, ...]:
    """`nonfinite, norm, largest, total, *sums, *turned` of an array, see `trace.names.Series`; `turned` is nan but in two dimensions."""
    flat = plain(np, values)
    with np.errstate(all="ignore"):
        finite = np.isfinite(flat)
        nonfinite = len(flat) - int(finite.sum())
        if nonfinite:
            flat = np.where(finite, flat, 0.0)
        turned = [float("nan")] * SUMS
        if values.ndim == 2:
            other = plain(np, values.T)
            turned = sums_of(np, np.where(np.isfinite(other), other, 0.0) if nonfinite else other).tolist()
        largest = float(np.abs(flat).max()) if len(flat) else 0.0
        return (nonfinite, float(np.sqrt(flat @ flat)), largest, float(flat.sum()), *sums_of(np, flat).tolist(), *turned)


def _signs(np: Any, many: int, seed: int) -> Any:
    return np.where(_mixed(np, many, seed) < 0, -1.0, 1.0)


def _mixed(np: Any, many: int, seed: int) -> Any:
    """A fixed pseudo-random int64 for each of the positions 0, 1, ...: those of splitmix64, which wraps around."""
    return finalised(np, np.arange(many, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)).view(np.int64)


def finalised(np: Any, x: Any) -> Any:
    """uint64s with their bits mixed, each by itself: what splitmix64 ends with (Steele, Lea, Flood: Fast splittable generators, 2014)."""
    u = np.uint64
    x = (x ^ (x >> u(30))) * u(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> u(27))) * u(0x94D049BB133111EB)
    return x ^ (x >> u(31))
