"""What is compared: the values of one name in each of two programs, brought to one form. Never holds more than two values of a name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.matching.masks import without_masked
from auditor.tolerance import unit_roundoff

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Array = NDArray[Any]
How = Literal["name", "value", "map"]


class Values(Protocol):
    """All values that one name had in one lane, in order: a `Series` of `auditor.trace.names`, of which this is what is needed here."""

    @property
    def name(self) -> str:
        """Path as the script would write it."""
        ...

    @property
    def scope(self) -> str:
        """Function it was assigned in."""
        ...

    @property
    def file(self) -> str:
        """Where that function stands."""
        ...

    @property
    def kind(self) -> str:
        """`variable`, `gradient` or `parameter`."""
        ...

    @property
    def order(self) -> Integers:
        """[n] position among all named values of the run."""
        ...

    @property
    def step(self) -> Integers:
        """[n] step."""
        ...

    @property
    def line(self) -> Integers:
        """[n] line that assigned it."""
        ...

    @property
    def dtype(self) -> Sequence[str]:
        """[n] names of dtypes."""
        ...

    @property
    def shape(self) -> Sequence[tuple[int, ...]]:
        """[n] shapes."""
        ...

    @property
    def digest(self) -> NDArray[np.uint64]:
        """[n] of the bytes in logical order."""
        ...

    @property
    def norm(self) -> Floats:
        """[n] Euclidean norm of the finite elements."""
        ...

    @property
    def total(self) -> Floats:
        """[n] plain sum of the finite elements."""
        ...

    @property
    def nonfinite(self) -> Integers:
        """[n] elements that are not finite."""
        ...

    @property
    def sums(self) -> Floats:
        """[n, 16] signed sums of the elements."""
        ...

    @property
    def turned(self) -> Floats:
        """[n, 16] the same of the transpose."""
        ...

    def value(self, k: int, /) -> Array | None:
        """The k-th value, None if only its sketch was kept."""
        ...


def elements(shape: Sequence[int]) -> int:
    """How many elements a value of this shape has."""
    return math.prod(shape)


def short_name(series: Values) -> str:
    """The last component of a path: `weight` of `model.fc.weight`."""
    return series.name.rpartition(".")[2]


def floating(dtype: str) -> bool:
    """Whether a dtype rounds."""
    return unit_roundoff(dtype) > 0


@dataclass
class Aligned:
    """A name, its counterpart, and which of their occurrences belong together."""

    a: Values
    b: Values
    how: How
    ka: Integers
    """[m] occurrences of `a`, ascending."""
    kb: Integers
    """[m] those of `b` that belong to them."""
    turned: bool = False
    """Whether the counterpart holds the transpose."""
    rearranged: bool = False
    """Whether the counterpart holds the same numbers in another layout, such as heads as a dimension: both are then compared sorted."""

    def __len__(self) -> int:
        return len(self.ka)

    def values(self, i: int) -> tuple[Array, Array] | None:
        """Both values of the i-th aligned occurrence, the second in the first's shape; None where one was not kept or they do not fit.

        What is masked in both has zeros.
        """
        if not 0 <= i < len(self):
            return None
        x, y = self.a.value(int(self.ka[i])), self.b.value(int(self.kb[i]))
        if x is None or y is None or x.size != y.size:
            return None
        if self.turned and y.ndim >= 2:
            y = np.swapaxes(y, -1, -2)
        x, y = without_masked(_wide(x), _wide(y).reshape(x.shape))
        return (np.sort(x, axis=None), np.sort(y, axis=None)) if self.rearranged else (x, y)

    def sketches(self, i: int) -> tuple[Floats, Floats]:
        """Both sketches of the i-th aligned occurrence: [16] each."""
        a, b = int(self.ka[i]), int(self.kb[i])
        return self.a.sums[a], (self.b.turned if self.turned else self.b.sums)[b]

    def updates(self, i: int) -> tuple[Array, Array] | None:
        """New minus old of both at the i-th aligned occurrence; of sketches where the values were not kept; None where there is none."""
        if not 1 <= i < len(self):
            return None
        new, old = self.values(i), self.values(i - 1)
        if new is not None and old is not None:
            if new[0].shape != old[0].shape:
                return None
            with np.errstate(all="ignore"):
                return new[0] - old[0], new[1] - old[1]
        if new is None and old is None and self.a.shape[self.ka[i]] == self.a.shape[self.ka[i - 1]]:
            (x, y), (w, z) = self.sketches(i), self.sketches(i - 1)
            return x - w, y - z
        return None

    def both(self, i: int) -> tuple[Array, Array]:
        """Both values of the i-th aligned occurrence, or their sketches, which are as good for whatever is linear."""
        return self.values(i) or self.sketches(i)

    def roundoff(self, i: int) -> float:
        """Unit roundoff of the coarser dtype at the i-th aligned occurrence; 0 for whole numbers."""
        return max(unit_roundoff(self.a.dtype[self.ka[i]]), unit_roundoff(self.b.dtype[self.kb[i]]))

    def size(self, i: int) -> int:
        """Number of elements at the i-th aligned occurrence."""
        return elements(self.a.shape[self.ka[i]])

    def scalar(self) -> bool:
        """Whether all values are single numbers."""
        return all(elements(shape) == 1 for shape in self.a.shape[:8])

    def whole_numbers(self, i: int) -> bool:
        """Whether neither value is of a dtype that rounds."""
        return self.roundoff(i) == 0

    def position(self, i: int) -> int:
        """The position of the i-th aligned occurrence among all named values of the first program."""
        return int(self.a.order[self.ka[i]])

    def occurrence(self, i: int) -> int:
        """The occurrence of `a` within its step, from 0."""
        k = int(self.ka[i])
        steps = self.a.step
        return k - int(np.searchsorted(steps, steps[k])) if steps[0] < steps[-1] and (np.diff(steps) >= 0).all() else k

    def norms(self, i: int) -> tuple[float, float]:
        """Euclidean norms of both values of the i-th aligned occurrence."""
        return float(self.a.norm[self.ka[i]]), float(self.b.norm[self.kb[i]])

    def error(self, i: int) -> float:
        """`||a - b|| / ||a||` at the i-th aligned occurrence; inf where sizes or non-finite elements differ, or `a` is zero and `b` is not.

        From a sketch of 16 signed sums it is off by a factor of about 1.3 either way: the mean of their squares estimates the square
        of the norm, with a relative variance of 2/16 (Alon, Matias and Szegedy, 1999).
        """
        a, b = int(self.ka[i]), int(self.kb[i])
        size = elements(self.a.shape[a])
        if size != elements(self.b.shape[b]):
            return math.inf
        if not size or (self.a.digest[a] == self.b.digest[b] and self.a.dtype[a] == self.b.dtype[b] and not self.turned):
            return 0.0
        kept = (
            self.values(i)
            if size > 1 or self.a.nonfinite[a] or self.b.nonfinite[b] or "complex" in self.a.dtype[a] + self.b.dtype[b]
            else None
        )
        if size == 1 and kept is None:
            x, y = float(self.a.total[a]), float(self.b.total[b])
            return _relative(abs(x - y), abs(x))
        if kept is not None:
            return relative_error(*kept)
        if self.a.nonfinite[a] != self.b.nonfinite[b]:
            return math.inf
        ours, theirs = self.sketches(i)
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            return _relative(abs(self.a.norm[a] - self.b.norm[b]), float(self.a.norm[a]))
        return _relative(float(np.sqrt(np.mean((ours - theirs) ** 2))), float(self.a.norm[a]))


def relative_error(x: Array, y: Array) -> float:
    """`||x - y|| / ||x||` of two arrays of one shape; inf where what is not finite is not the same, or x is zero and y is not."""
    finite = np.isfinite(x)
    if not finite.all():
        if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(x[~finite], y[~finite], equal_nan=True):
            return math.inf
        x, y = x[finite], y[finite]
    elif not np.isfinite(y).all():
        return math.inf
    with np.errstate(over="ignore"):
        return _relative(_norm(x - y), _norm(x))


def _norm(x: Array) -> float:
    return float(np.linalg.norm(x.ravel()))


def _relative(difference: float, size: float) -> float:
    if difference == 0:
        return 0.0
    return difference / size if size else math.inf


def _wide(x: Array) -> Array:
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
