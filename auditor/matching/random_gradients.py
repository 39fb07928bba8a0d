"""Gradients that consist of rounding errors, and the parameters that they move at random.

Where a loss does not depend on a parameter (the bias of keys in an attention, or in front of a normalization), its gradient is rounding's
alone, and an optimizer that divides it by its own size, as Adam, moves the parameter by that much at random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditor.matching.errors import CANCELLATION_UNITS, ErrorHistory
from auditor.matching.values import Aligned, relative_error


class RandomGradients:
    """The gradients, or elements of gradients, that are left by cancellation and differ, by program and parameter."""

    def __init__(self) -> None:
        self._elements: dict[str, NDArray[np.bool_] | None] = {}
        """None: all of them."""

    def note(self, one: ErrorHistory) -> None:
        """Remember all elements of a gradient, or of the parameter itself."""
        self._elements.update(dict.fromkeys(_parameters(one.pair)))

    def note_elements(self, one: ErrorHistory, at: int) -> None:
        """Remember the elements of a gradient that are left by cancellation and differ."""
        bases = _parameters(one.pair)
        if all(base in self._elements and self._elements[base] is None for base in bases):
            return
        found = one.pair.values(int(one.looked[at]))
        if found is None or found[0].size < 2 or one.pair.rearranged:
            return
        x, y = (value.ravel() for value in found)
        largest = np.maximum(np.abs(x), np.abs(y))
        gone = (largest <= CANCELLATION_UNITS * one.roundoff[at] * one.sizes[at]) & (x != y)
        if not gone.any():
            return
        for base in bases:
            known = self._elements.get(base)
            if base not in self._elements or (known is not None and known.size == gone.size):
                self._elements[base] = gone if known is None else known | gone

    def decide(self, one: ErrorHistory, i: int, allowed: float) -> bool:
        """Whether values differ only where their gradient is left by cancellation."""
        for base in _parameters(one.pair):
            if base not in self._elements:
                continue
            gone = self._elements[base]
            if gone is None:
                return True
            found = one.pair.values(i)
            if found is not None and found[0].size == gone.size:
                x, y = (value.ravel()[~gone] for value in found)
                if relative_error(x, y) <= allowed:
                    return True
        return False


def _parameters(pair: Aligned) -> list[str]:
    """The parameter that a pair is, or is the gradient of, in each program."""
    return [f"{which} {one.name.removesuffix('.grad')}" for which, one in (("a", pair.a), ("b", pair.b))]


def is_gradient(pair: Aligned) -> bool:
    """Whether one of the names is that of a gradient."""
    return pair.a.name.endswith(".grad") or pair.b.name.endswith(".grad")
