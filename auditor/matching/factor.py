"""What a constant factor between two programs can mean, as far as the number fits within its error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auditor.results import Reason

#: Common decay rates of the two moments of Adam.
_BETAS = ((0.9, 0.8, 0.95, 0.5), (0.999, 0.99, 0.98, 0.95))


#: Largest number of readings of one factor.
_MAX_READINGS = 2
#: Smallest size that is combined with a factor of two.
_MIN_SIZE_COMBINED = 8
#: Largest N of a Bessel correction: beyond it, N / (N - 1) is too near to 1.
_MAX_BESSEL = 1000
#: Smallest N of a Bessel correction: below it, N / (N - 1) is a ratio such as 3/2 or 4/3, which can have any cause.
_MIN_BESSEL = 5


@dataclass(frozen=True)
class Context:
    """The sizes and numbers at a difference that a factor can come from."""

    sizes: Sequence[tuple[int, str]] = ()
    """Sizes and what has them, the nearest first: (64, "rows of `error`")."""
    numbers: Sequence[tuple[str, float, float]] = ()
    """Single numbers with their values in the two programs: ("lr", 0.01, 0.1)."""
    updates: int = 0
    """How many updates were made before, if this is one."""


def meaning_of(factor: float, around: Context, precision: float) -> list[Reason]:
    """What a factor of the second program against the first can come from; nothing if it is not a known one.

    `precision` is the relative error of the factor; of several readings the first two are given. The forms: a sum against
    a mean (N), the derivative of a square (2), both (2 N, 2 / N), the variance with and without Bessel's correction (N / (N - 1), and its
    root), a scale of 1 / sqrt(d), a ratio of two numbers that the programs have (a learning rate), a bias correction that is missing
    (1 - beta ** t: Kingma and Ba, 2015, algorithm 1).
    """
    if factor <= 0:
        readings = meaning_of(-factor, around, precision)
        return [Reason.of("sign-too"), *readings] if readings else []
    close = 4 * precision
    if close > 1e-2:  # anything would fit
        return []
    found: list[Reason] = []
    for number, reading in _known(around):
        if abs(factor / number - 1) <= close and reading not in found:
            found.append(reading)
    return found[: 1 if found and found[0].slug in ("twice", "half") else _MAX_READINGS]


def _known(around: Context) -> Iterator[tuple[float, Reason]]:
    for name, a, b in around.numbers:
        if a and b and a != b:
            yield b / a, Reason.of("number-differs", name=name, a=a, b=b)
    yield 2.0, Reason.of("twice")
    yield 0.5, Reason.of("half")
    for n, what in around.sizes:
        if n > 2:
            yield float(n), Reason.of("sum-for-mean", n=n, what=what)
            yield 1 / n, Reason.of("mean-for-sum", n=n, what=what)
    for n, what in around.sizes:
        if n >= _MIN_SIZE_COMBINED:
            yield 2.0 * n, Reason.of("sum-for-mean-twice", n=n, what=what)
            yield 2 / n, Reason.of("mean-for-sum-twice", n=n, what=what)
            yield n / 2, Reason.of("sum-for-mean-half", n=n, what=what)
            yield 1 / (2 * n), Reason.of("mean-for-sum-half", n=n, what=what)
    for n, what in around.sizes:
        if _MIN_BESSEL <= n <= _MAX_BESSEL:
            for power, root in ((1.0, False), (0.5, True)):
                bessel = (n / (n - 1)) ** power
                yield bessel, Reason.of("unbiased-for-biased", root=root, n=n, what=what)
                yield 1 / bessel, Reason.of("biased-for-unbiased", root=root, n=n, what=what)
    for n, what in around.sizes:
        if n > 1:
            yield math.sqrt(n), Reason.of("scale-missing", n=n, what=what)
            yield 1 / math.sqrt(n), Reason.of("scale-added", n=n, what=what)
    if around.updates:
        yield from _bias_corrections(around.updates)
    for power in range(1, 13):
        yield 10.0**power, Reason.of("power-of-ten", value=10.0**power)
        yield 10.0**-power, Reason.of("power-of-ten", value=10.0**-power)
    for name, a, b in around.numbers:
        if a and a == b and a not in (1, -1):
            yield a, Reason.of("times-number", name=name, value=a)
            yield 1 / a, Reason.of("over-number", name=name, value=a)


def _bias_corrections(t: int) -> Iterator[tuple[float, Reason]]:
    for one in _BETAS[0]:
        for two in _BETAS[1]:
            first, second = 1 - one**t, math.sqrt(1 - two**t)
            both = Reason.of("bias-correction", betas=[one, two], update=t)
            yield first / second, both
            yield second / first, both
    for one in _BETAS[0]:
        of_first = Reason.of("bias-correction-first", beta=one, update=t)
        yield 1 - one**t, of_first
        yield 1 / (1 - one**t), of_first
    for two in _BETAS[1]:
        for power, moment in ((0.5, False), (1.0, True)):
            of_second = Reason.of("bias-correction-second", beta=two, update=t, moment=moment)
            yield (1 - two**t) ** power, of_second
            yield (1 - two**t) ** -power, of_second
