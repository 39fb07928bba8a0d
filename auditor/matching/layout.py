"""The same numbers in other places: transposed, rows or columns in another order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auditor.matching.observation import Observation, is_supported, residual
from auditor.matching.values import Array, relative_error
from auditor.results import Reason, Relation

#: Distinct rows or columns that a permutation needs.
_MIN_DISTINCT = 3
#: The same where a scale is fitted too, because few scaled rows match by chance.
_MIN_DISTINCT_SCALED = 6
#: Digits in which two rows must differ to be distinct.
_DISTINCT_DIGITS = 3


def laid_out(observation: Observation, x: Array, y: Array) -> Relation | None:
    """The same numbers in other places: transposed, rows or columns in another order; also times a factor."""
    whole = observation.pair.values(observation.start) is not None
    if not whole:
        return _turned_sketch(observation)
    for scale in _scales(x, y):
        scaled = scale * x
        scaled_too = [] if scale == 1 else [Reason.of("and-scaled", factor=float(f"{scale:.6g}"))]
        number = None if scale == 1 else float(f"{scale:.6g}")
        if x.ndim == 2 and x.shape[0] == x.shape[1] and is_supported(residual(scaled.T, y), observation, observation.start, x, y):
            return Relation(kind="transpose", value=number, meaning=[Reason.of("transposed"), *scaled_too])
        for axis, what in ((0, "rows" if x.ndim > 1 else "elements"), (max(x.ndim - 1, 1), "columns")):
            if axis < x.ndim and _told_apart(x, axis, scale):
                again = permuted(scaled, y, axis)
                if again is not None and is_supported(residual(again, y), observation, observation.start, x, y):
                    return Relation(kind="permutation", value=number, meaning=[Reason.of("reordered", what=what), *scaled_too])
    return None


def _told_apart(x: Array, axis: int, scale: float) -> bool:
    """Whether x has enough rows along an axis that differ in more than signs; few distinct rows, as of classes, match in some order.

    So of signs: the first update of Adam is the learning rate or its negative in each element.
    """
    parts = np.abs(np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1))
    some = parts[parts.any(axis=1)]
    kinds = len(np.unique(np.round(some / (parts.max() or 1.0), _DISTINCT_DIGITS), axis=0))
    least = _MIN_DISTINCT if scale == 1 else _MIN_DISTINCT_SCALED
    return kinds >= least


def _turned_sketch(observation: Observation) -> Relation | None:
    a, b = int(observation.pair.ka[observation.start]), int(observation.pair.kb[observation.start])
    shape = observation.pair.a.shape[a]
    if observation.of == "update" or len(shape) != 2 or shape != observation.pair.b.shape[b]:
        return None
    ours, theirs = observation.pair.a.turned[a], observation.pair.b.sums[b]
    if np.isfinite(ours).all() and relative_error(ours, theirs) <= observation.close(observation.start):
        return Relation(kind="transpose", value=None, meaning=[Reason.of("transposed")])
    return None


def _scales(x: Array, y: Array) -> Iterator[float]:
    """1, and the ratio of the two arrays' norms."""
    yield 1.0
    sizes = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    if 0 not in sizes and sizes[0] != sizes[1]:
        yield sizes[1] / sizes[0]


def permuted(x: Array, y: Array, axis: int) -> Array | None:
    """The parts of x along an axis in the order in which y has them, as far as sorting can tell; None for numbers that cannot be sorted.

    Both are sorted by their product with one fixed vector. Rows between which that cannot tell are alike but for rounding, or the
    caller's comparison fails: this finds a candidate and proves nothing.
    """
    if np.iscomplexobj(x) or np.iscomplexobj(y) or x.ndim == 0 or x.shape != y.shape:
        return None
    ours, theirs = (np.moveaxis(one, axis, 0).reshape(one.shape[axis], -1) for one in (x, y))
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return None
    width = ours.shape[1]
    along = np.sqrt(np.arange(2, width + 2)) % 1.0 + 0.5 if width > 1 else np.ones(1)
    order = np.empty(len(ours), np.int64)
    order[np.argsort(theirs @ along, kind="stable")] = np.argsort(ours @ along, kind="stable")
    return np.take(x, order, axis)
