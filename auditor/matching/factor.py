"""What a constant factor between two programs can mean, as far as the number fits within its error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def meaning_of(factor: float, around: Context, precision: float) -> str:
    """What a factor of the second program against the first can come from; empty if it is not a known one.

    `precision` is the relative error of the factor; of several readings the first two are given. The forms: a sum against
    a mean (N), the derivative of a square (2), both (2 N, 2 / N), the variance with and without Bessel's correction (N / (N - 1), and its
    root), a scale of 1 / sqrt(d), a ratio of two numbers that the programs have (a learning rate), a bias correction that is missing
    (1 - beta ** t: Kingma and Ba, 2015, algorithm 1).
    """
    if factor <= 0:
        said = meaning_of(-factor, around, precision)
        return f"the sign, and: {said}" if said else ""
    close = 4 * precision
    if close > 1e-2:  # anything would fit
        return ""
    found = list(dict.fromkeys(said for number, said in _known(around) if abs(factor / number - 1) <= close))
    return "; or ".join(found[: 1 if found and found[0].startswith(("twice", "half")) else _MAX_READINGS])


def _known(around: Context) -> Iterator[tuple[float, str]]:
    for name, a, b in around.numbers:
        if a and b and a != b:
            yield b / a, f"`{name}` is {_said(a)} in the first and {_said(b)} in the second program"
    yield 2.0, "twice: a one half that is missing in the first or too much in the second, or the derivative of a square"
    yield 0.5, "half: a one half that is missing in the second or too much in the first, or the derivative of a square"
    for n, what in around.sizes:
        if n > 2:
            yield float(n), f"{n}: a sum in the second where the first takes a mean over the {what}"
            yield 1 / n, f"1/{n}: a mean in the second where the first takes a sum over the {what}"
    for n, what in around.sizes:
        if n >= _MIN_SIZE_COMBINED:
            yield 2.0 * n, f"2 x {n}: a sum against a mean over the {what}, and the derivative of a square"
            yield 2 / n, f"2/{n}: a mean against a sum over the {what}, and the derivative of a square"
            yield n / 2, f"{n}/2: a sum against a mean over the {what}, and a one half or the derivative of a square"
            yield 1 / (2 * n), f"1/(2 x {n}): a mean against a sum over the {what}, and a one half"
    for n, what in around.sizes:
        if _MIN_BESSEL <= n <= _MAX_BESSEL:
            for power, name in ((1.0, "variance"), (0.5, "standard deviation")):
                bessel = (n / (n - 1)) ** power
                yield bessel, f"the unbiased {name} in the second against the biased one in the first, over the {what} (N = {n})"
                yield 1 / bessel, f"the biased {name} in the second against the unbiased one in the first, over the {what} (N = {n})"
    for n, what in around.sizes:
        if n > 1:
            yield math.sqrt(n), f"sqrt({n}): a scale of 1/sqrt(d) that the second does not have, d the {what}"
            yield 1 / math.sqrt(n), f"1/sqrt({n}): a scale of 1/sqrt(d) that the first does not have, d the {what}"
    if around.updates:
        yield from _bias_corrections(around.updates)
    for power in range(1, 13):
        yield 10.0**power, f"a power of ten: {_said(10.0**power)}"
        yield 10.0**-power, f"a power of ten: {_said(10.0**-power)}"
    for name, a, b in around.numbers:
        if a and a == b and a not in (1, -1):
            yield a, f"as if the second were multiplied by `{name}` ({_said(a)})"
            yield 1 / a, f"as if the second were divided by `{name}` ({_said(a)})"


def _bias_corrections(t: int) -> Iterator[tuple[float, str]]:
    for one in _BETAS[0]:
        for two in _BETAS[1]:
            first, second = 1 - one**t, math.sqrt(1 - two**t)
            said = f"a bias correction that one of them does not make (beta {one} and {two}, update {t})"
            yield first / second, said
            yield second / first, said
    for one in _BETAS[0]:
        said = f"a bias correction of the first moment that one of them does not make (beta {one}, update {t})"
        yield 1 - one**t, said
        yield 1 / (1 - one**t), said
    for two in _BETAS[1]:
        for power, what in ((0.5, "in an update"), (1.0, "in the moment")):
            said = f"a bias correction of the second moment that one of them does not make (beta {two}, update {t}, {what})"
            yield (1 - two**t) ** power, said
            yield (1 - two**t) ** -power, said


def _said(number: float) -> str:
    return f"{number:.6g}"
