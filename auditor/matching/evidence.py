"""What names that agree prove: whether they were computed, and which differences are only of representation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auditor.matching.equivalence import telling
from auditor.matching.errors import ErrorHistory
from auditor.matching.propagation import Difference
from auditor.matching.values import Aligned

#: Occurrences of a computed name that must agree for the programs to agree.
_MIN_OCCURRENCES = 8
#: Fraction of its size by which an updated value mostly moves.
_SMALL_UPDATE = 0.05
#: Relative error of the same float64 computation in another order.
_EXACT_ERROR = 1e-12


def computed(one: ErrorHistory) -> bool:
    """Whether a name that both programs compute agrees at enough occurrences."""
    return len(one.pair) >= _MIN_OCCURRENCES and _is_computed(one)


def _is_computed(one: ErrorHistory) -> bool:
    """Whether a name agrees and cannot be an input of both programs: it is updated, or rounding errors show in it."""
    pair = one.pair
    if one.first is not None or one.random or not (telling(pair.a) and telling(pair.b)):
        return False
    return _updated(pair) or bool((one.errors > 0).any())


def _updated(pair: Aligned) -> bool:
    """Whether an array moves little at a time, as weights do and batches do not."""
    sizes = []
    for i in np.unique(np.linspace(1, len(pair) - 1, 2 * _MIN_OCCURRENCES, dtype=np.int64)).tolist():
        new, update = pair.values(i), pair.updates(i)
        if new is not None and update is not None and np.any(new[0] != np.round(new[0])):
            sizes.append(float(np.linalg.norm(update[0])) / float(np.linalg.norm(new[0])))
    if len(sizes) < _MIN_OCCURRENCES or pair.scalar():
        return False
    return 0 < float(np.median(sizes)) < _SMALL_UPDATE


def representation_differences(
    differing: Sequence[ErrorHistory], differences: Sequence[Difference], histories: Sequence[ErrorHistory]
) -> set[int]:
    """The names that differ only in representation, if nothing else differs before or after them.

    Square matrices that one program has transposed, each time; and a single number, such as a learning rate, that one reads before and the
    other behind what changes it: were it used so, what is computed with it would differ. It is none that is computed from the weights, as a
    loss: it is the same to its last digits, which they are not.
    """
    if len(differing) == len(histories):
        return set()
    if all(_read_elsewhere(one) for one in differences) and any(_is_computed(one) and one.errors.max() > _EXACT_ERROR for one in histories):
        return {id(one.pair) for one in differing}
    if not all(one.relation.kind == "transpose" and one.relation.value is None for one in differences):
        return set()
    last = max(int(one.pair.a.order[one.pair.ka[-1]]) for one in histories if one not in differing)
    return {id(one.pair) for one in differing if int(one.pair.a.order[one.pair.ka[0]]) < last}


def _read_elsewhere(one: Difference) -> bool:
    """Whether a single number equals the previous or the next one of the other program throughout."""
    lag, pair = one.relation.value, one.pair
    if one.relation.kind != "lag" or lag is None or not pair.scalar() or len(pair.a.order) != len(pair.b.order):
        return False
    x, y = pair.a.total, pair.b.total
    x, y = (x[:-1], y[1:]) if lag > 0 else (x[1:], y[:-1])
    return bool((np.abs(x - y) <= _EXACT_ERROR * np.abs(x)).all())
