"""Lists of numbers as arrays: `weights[0]`, `weights[1]` in Python are `w` in NumPy. Never guesses an order."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import product

import numpy as np
from numpy.typing import NDArray

from auditor.matching.values import Array, Floats, Integers, Values, elements
from auditor.trace import SUMS, signs

#: An entry of a list, or of a list of lists: its name and where it stands.
_ENTRY = re.compile(r"(?P<name>[^\[\]]+)(?P<at>(?:\[\d+\])+)")


class Joined:
    """The entries of a list as one series: each round of them a value, which is there when the last of them is assigned."""

    def __init__(self, name: str, shape: tuple[int, ...], entries: Sequence[Values]) -> None:
        first, last = entries[0], entries[-1]
        self.name, self.scope, self.file, self.kind = name, first.scope, first.file, first.kind
        self.order, self.step, self.line = last.order, last.step, first.line
        n = len(self.order)
        dtypes = {dtype for one in entries for dtype in one.dtype}
        self.dtype: Sequence[str] = [dtypes.pop() if len(dtypes) == 1 else "float64"] * n
        self.shape: Sequence[tuple[int, ...]] = [shape] * n
        data = np.array([one.total for one in entries], np.float64).T
        self.nonfinite: Integers = np.array([one.nonfinite for one in entries], np.int64).sum(0)
        for k in np.flatnonzero(self.nonfinite).tolist():
            data[k] = [math.nan if (value := one.value(k)) is None else float(value.ravel()[0]) for one in entries]
        self._data = np.ascontiguousarray(data).reshape(n, *shape)
        self.digest: NDArray[np.uint64] = np.array(
            [int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "big") for row in self._data], np.uint64
        )
        finite = np.where(np.isfinite(data), data, 0.0)
        self.norm: Floats = np.sqrt((finite * finite).sum(1))
        self.total: Floats = finite.sum(1)

    @cached_property
    def _sketches(self) -> Floats:
        return np.array([signs.sketch(np, row)[4:] for row in self._data])

    @property
    def sums(self) -> Floats:
        """[n, 16] signed sums of the elements."""
        return self._sketches[:, :SUMS]

    @property
    def turned(self) -> Floats:
        """[n, 16] the same of the transpose."""
        return self._sketches[:, SUMS:]

    def value(self, k: int, /) -> Array | None:
        """The k-th value."""
        value: Array = self._data[k]
        return value if "float" in self.dtype[k] else value.astype(np.int64)


def stem(one: Values) -> str:
    """What a name is a part of: the list of an entry, the module of a parameter; itself of anything else."""
    whole = one.name.partition("[")[0]
    return whole if one.kind == "variable" else whole.partition(".")[0]


def with_lists_joined(series: Sequence[Values], others: Sequence[Values], mapped: Collection[str]) -> list[Values]:
    """The series, with the entries of each list joined to one series, in order of execution.

    Only where all entries are assigned in turn, as often, and neither the other program nor a mapping has an entry of that name, which
    would then be its counterpart.
    """
    known = {one.name for one in others} | set(mapped)
    groups: dict[tuple[str, str, str], dict[tuple[int, ...], Values]] = {}
    for one in series:
        found = _ENTRY.fullmatch(one.name) if one.kind == "variable" and len(one.order) else None
        if found is not None:
            at = tuple(int(number) for number in re.findall(r"\d+", found["at"]))
            groups.setdefault((found["name"], one.scope, one.file), {})[at] = one
    made: list[Values] = []
    gone: set[int] = set()
    for (name, _, _), entries in groups.items():
        shape = _shape(entries)
        if shape is None or any(one.name in known for one in entries.values()) or name in {one.name for one in series}:
            continue
        inside = [entries[at] for at in sorted(entries)]
        if _in_turn(inside):
            made.append(Joined(name, shape, inside))
            gone.update(id(one) for one in inside)
    if not made:
        return list(series)
    return sorted([one for one in series if id(one) not in gone] + made, key=lambda one: int(one.order[0]) if len(one.order) else 0)


def _shape(entries: Collection[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape that the entries fill; None if there is but one, or there are gaps."""
    if len({len(at) for at in entries}) != 1 or len(entries) < 2:
        return None
    shape = tuple(max(numbers) + 1 for numbers in zip(*entries, strict=True))
    return shape if math.prod(shape) == len(entries) and set(entries) == set(product(*map(range, shape))) else None


def _in_turn(entries: Sequence[Values]) -> bool:
    """Whether entries are single real numbers that are assigned one after the other, and all of them before the first again."""
    n = len(entries[0].order)
    if any(len(one.order) != n or any(elements(shape) != 1 for shape in one.shape) for one in entries):
        return False
    if any("complex" in dtype for one in entries for dtype in one.dtype):
        return False
    orders = np.array([one.order for one in entries]).T.ravel()
    return bool((np.diff(orders) > 0).all())
