"""Masks in arrays: minus infinity, -1e9 and the like, which replace scores before a softmax or a maximum.

Two programs need not write the same number there, and beside it all others would vanish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from auditor.matching.values import Array

#: Ratio to the largest other element from which on equal elements are a mask; most masks are negative (BERT: -10000, scores of 10).
_NEGATIVE_FILL, _POSITIVE_FILL = 500.0, 1e6
#: Relative spread of a mask: a score may be added to it.
_FILL_SPREAD = 1e-3
#: Ratio of two successive sizes of elements above which the larger ones are uninitialized memory or a mask.
_GARBAGE_GAP = 1e4


def masked(x: Array) -> Array | None:
    """[shape] bool, which elements are a mask: infinite ones, or equal ones that are far larger than all others."""
    if x.size < 2 or x.dtype.kind not in "f":
        return None
    size = np.abs(x)
    top = size.max()
    if np.isinf(top):
        found: Array = x == x[size == top].flat[0]
        return found
    if not top > 0 or np.isnan(top):
        return None
    group = size >= top * (1 - _FILL_SPREAD)
    many = int(np.count_nonzero(group))
    if many < 2 or many == x.size:
        return None
    rest, some = size[~group].max(), x[group]
    far = _NEGATIVE_FILL if some[0] < 0 else _POSITIVE_FILL
    return group if top >= far * max(rest, 1.0) and (np.sign(some) == np.sign(some[0])).all() else None


def without_masked(x: Array, y: Array) -> tuple[Array, Array]:
    """Two arrays of one shape with zeros where both have a mask of one sign; as they are if their masks are not the same."""
    ours = masked(x)
    if ours is None:
        return x, y
    theirs = masked(y)
    if theirs is None or not np.array_equal(ours, theirs) or np.sign(x[ours][0]) != np.sign(y[ours][0]) or ours.all():
        return x, y
    return np.where(ours, 0.0, x), np.where(ours, 0.0, y)


def size_without(x: Array) -> float:
    """Euclidean norm of the elements below the first wide gap: without masks and uninitialized memory; 0 for a fill."""
    size = np.sort(np.abs(x[np.isfinite(x)]), axis=None).astype(np.float64)
    size = size[size > 0]
    if not len(size) or size[0] == size[-1]:
        return 0.0
    wide = np.flatnonzero(size[1:] / _GARBAGE_GAP > size[:-1])
    with np.errstate(over="ignore"):
        return float(np.linalg.norm(size[: wide[0] + 1] if len(wide) else size))
