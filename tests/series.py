"""Builds series of named values by hand: a program is a function that assigns values to names, as the recorder would see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from auditor.matching import MatchResult
from auditor.report.words.reasons import meaning_of, text_of
from auditor.trace import SUMS

Array = NDArray[Any]

#: As in the recorder, each element is added with its sign to one of the sums. Any fixed signs work if both programs use them.
_SIGNS = np.where(np.random.default_rng(7).random(1 << 16) < 0.5, -1.0, 1.0)


def sketch(value: Array) -> NDArray[np.float64]:
    """[16] signed sums of an array."""
    flat = value.ravel().astype(np.float64)
    signed = np.concatenate([flat * np.resize(_SIGNS, flat.size), np.zeros(-flat.size % SUMS)])
    total: NDArray[np.float64] = signed.reshape(-1, SUMS).sum(0)
    return total


@dataclass
class Named:
    """All values that one name had, with the fields of `auditor.trace.names.Series`."""

    name: str
    scope: str = "<module>"
    file: str = "train.py"
    kind: str = "variable"
    keep: bool = True
    values: list[Array] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    @property
    def order(self) -> NDArray[np.int64]:
        return np.array(self.orders, np.int64)

    @property
    def step(self) -> NDArray[np.int64]:
        return np.array(self.steps, np.int64)

    @property
    def line(self) -> NDArray[np.int64]:
        return np.array(self.lines, np.int64)

    @property
    def dtype(self) -> list[str]:
        return [str(value.dtype) for value in self.values]

    @property
    def shape(self) -> list[tuple[int, ...]]:
        return [value.shape for value in self.values]

    @property
    def digest(self) -> NDArray[np.uint64]:
        return np.array([xxhash.xxh3_64_intdigest(np.ascontiguousarray(value).tobytes()) for value in self.values], np.uint64)

    def _each(self, found: Any, dtype: Any = np.float64) -> NDArray[Any]:
        return np.array([found(value[np.isfinite(value)].astype(np.float64)) for value in self.values], dtype)

    @property
    def norm(self) -> NDArray[np.float64]:
        return self._each(np.linalg.norm)

    @property
    def total(self) -> NDArray[np.float64]:
        return self._each(np.sum)

    @property
    def nonfinite(self) -> NDArray[np.int64]:
        return np.array([np.count_nonzero(~np.isfinite(value)) for value in self.values], np.int64)

    @property
    def sums(self) -> NDArray[np.float64]:
        return np.array([sketch(value) for value in self.values])

    @property
    def turned(self) -> NDArray[np.float64]:
        return np.array([sketch(value.T) if value.ndim == 2 else np.full(SUMS, np.nan) for value in self.values])

    def value(self, k: int, /) -> Array | None:
        if not self.keep:
            return None
        value = self.values[k]
        return value.astype(np.int64 if value.dtype.kind in "iub" else np.float64)


class Frozen:
    """A `Named` whose facts are computed once, like those of a recording."""

    def __init__(self, named: Named) -> None:
        for fact in ("name", "scope", "file", "kind", "order", "step", "line", "dtype", "shape", "digest", "norm", "total", "nonfinite"):
            setattr(self, fact, getattr(named, fact))
        self.sums = self.turned = np.zeros((0, SUMS))
        if not named.keep:
            self.sums, self.turned = named.sums, named.turned
        self._named = named

    def value(self, k: int, /) -> Array | None:
        return self._named.value(k)


class Program:
    """A script's assignments: `p.let("w1", w1)` assigns a name; `p.tick()` ends a step."""

    def __init__(self, *, keep: bool = True, steps: bool = True) -> None:
        self._known: dict[tuple[str, str], Named] = {}
        self._order = 0
        self._step = 0
        self._keep, self._steps = keep, steps

    def let(self, name: str, value: Any, scope: str = "<module>", kind: str = "variable", line: int = 0) -> Any:
        """Record a value under a name and return it."""
        kept = np.array(value)
        found = self._known.setdefault((name, scope), Named(name, scope, kind=kind, keep=self._keep or kept.size == 1))
        found.values.append(kept)
        found.orders.append(self._order)
        found.steps.append(self._step if self._steps else 0)
        found.lines.append(line or len(self._known))
        self._order += 1
        return value

    def tick(self) -> None:
        """End the step."""
        self._step += 1

    def series(self) -> list[Any]:
        """Everything recorded."""
        return [Frozen(named) for named in self._known.values()]


def told(found: MatchResult) -> str:
    """What is said of a match: the relations of the names that differ by themselves, or else of all, and why names are alone."""
    said = [text_of(found.why)] if found.why is not None else []
    for pair in found.origins or found.pairs:
        for which, one in (("", pair.relation), ("the update of ", pair.update)):
            if one is not None:
                value = "" if one.value is None else f" {one.value:.6g}"
                said.append(f"{which}`{pair.a}`: {one.kind}{value} {meaning_of(one.meaning)}")
    return "; ".join([*said, *map(text_of, found.unaligned)])
