"""What the parts of a record mean to those who read it."""

from __future__ import annotations

import math
from typing import NamedTuple

from auditor.trace.facts import checked, load, outputs

#: Dtypes that are rounded; others are equal or they are not.
_ROUNDED = ("float", "bfloat", "complex")


class Output(NamedTuple):
    """A tensor that an op made or wrote. Of another object only its kind is known: it has no device."""

    dtype: str
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] | None = None
    """None: contiguous, or not strided."""
    device: str = ""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def rounded(self) -> bool:
        """Whether its elements are floating point numbers."""
        return self.dtype.startswith(_ROUNDED)


def listed(text: str | None, base: int = 10) -> list[int]:
    """The numbers of a column that lists several: `inputs` (rows), `digests` (base 16). What is no number is left out."""
    found = []
    for word in (text or "").split():
        try:
            number = int(word, base)
        except ValueError:  # of a damaged run
            continue
        if -(1 << 63) <= number < 1 << 64:
            found.append(number)
    return found


def outputs_of(text: str | None) -> list[Output]:
    """What the column `out` of a record says; nothing where it is empty, and nothing where a damaged run says what cannot be."""
    try:
        found = checked(load(text.encode()), outputs) if text else []
    except ValueError:
        return []
    return [Output(dtype, tuple(shape), None if stride is None else tuple(stride), device) for dtype, shape, stride, device in found]
