"""A pair from its first difference on, and when its values support a relation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from auditor.matching.factor import Context
from auditor.matching.values import Aligned, Array, relative_error

#: Ratio of residual to difference that proves a relation of arrays, and the elements that such an array has.
_NEGLIGIBLE_RESIDUAL = 1e-4
MIN_ELEMENTS = 8
#: Occurrences examined, from the first difference on.
WINDOW = 8


@dataclass(frozen=True)
class Observation:
    """A pair from its first difference on, as values or as updates."""

    pair: Aligned
    start: int
    close: Callable[[int], float]
    """Relative rounding error at an occurrence."""
    of: Literal["value", "update"] = "value"
    around: Context = field(default_factory=Context)

    def at(self, i: int) -> tuple[Array, Array] | None:
        """Both values, or updates, at the i-th aligned occurrence."""
        if not 0 <= i < len(self.pair):
            return None
        return self.pair.both(i) if self.of == "value" else self.pair.updates(i)

    def later(self, count: int = WINDOW) -> Iterator[tuple[int, Array, Array]]:
        """The occurrences from the first difference on, as far as each is known and of the first one's size."""
        size = None
        for i in range(self.start, min(self.start + count, len(self.pair))):
            found = self.at(i)
            if found is None or (size is not None and found[0].size != size):
                return
            size = found[0].size
            yield i, found[0], found[1]


def residual(x: Array, y: Array) -> float:
    """The relative residual of y after x."""
    return relative_error(y, x)


def is_supported(left: float, observation: Observation, i: int, x: Array, y: Array) -> bool:
    """Whether a residual is a rounding error, or negligible beside the difference."""
    difference = residual(x, y)
    if left <= observation.close(i) and left < 0.05 * difference:
        return True
    return x.size >= MIN_ELEMENTS and left <= _NEGLIGIBLE_RESIDUAL * difference


def best_factor(x: Array, y: Array) -> float:
    """The factor of x that fits y best."""
    x, y = x.ravel(), y.ravel()
    size = float(np.vdot(x, x).real)
    return float(np.vdot(x, y).real) / size if size else math.nan
