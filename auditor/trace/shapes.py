"""What one value of a run's JSON must be. A `Shape` says what is wrong with a value, as half a sentence, or nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

Shape = Callable[[Any], str]


class WrongFactError(ValueError):
    """A fact is not what it should be."""


def load(data: bytes) -> Any:
    """What JSON says. Raises ValueError, also for values that are nested too deeply."""
    try:
        return json.loads(data)
    except RecursionError:
        raise WrongFactError("it is nested too deeply") from None


def in_utf8(value: Any) -> Any:
    """A value as DuckDB can hold it: a file name that is no UTF-8 is held as lone surrogates, which become escapes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) and not value.isascii() else value


def text(value: Any) -> str:
    """Any text."""
    return "" if isinstance(value, str) else "is no text"


def whole(value: Any) -> str:
    """A whole number that fits into 64 bits, with or without a sign."""
    return "" if isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 64 else "is no number of 64 bits"


def count(value: Any) -> str:
    """A whole number that counts something."""
    return whole(value) or ("" if 0 <= value < 1 << 63 else "is no count")


def number(value: Any) -> str:
    """Any number."""
    return "" if isinstance(value, float) else whole(value)


def flag(value: Any) -> str:
    """True or false."""
    return "" if isinstance(value, bool) else "is neither true nor false"


def scalar(value: Any) -> str:
    """A text, a number or a flag, or none of them."""
    return "" if value is None or isinstance(value, (str, bool, float)) else whole(value)


def _called(name: str, shape: Shape) -> Shape:
    shape.__name__ = name
    return shape


def maybe(shape: Shape) -> Shape:
    """The same, or null."""
    return _called(f"{shape.__name__} or null", lambda value: "" if value is None else shape(value))


def many(shape: Shape, length: int | None = None) -> Shape:
    """A list of these."""

    def wrong(value: Any) -> str:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            return "is no list" if length is None else f"is no list of {length}"
        return next((said for part in value if (said := shape(part))), "")

    return _called(f"list of {shape.__name__}", wrong)


def table(shapes: Mapping[str, Shape], *needed: str) -> Shape:
    """A mapping in which the keys that are known have these, and the needed ones are there."""

    def wrong(value: Any) -> str:
        if not isinstance(value, dict):
            return "is no mapping"
        missing = next((key for key in needed if key not in value), None)
        if missing is not None:
            return f"has no {missing}"
        return next((f"has a {key} that {said}" for key, shape in shapes.items() if key in value and (said := shape(value[key]))), "")

    return _called("mapping", wrong)


def mapping(shape: Shape) -> Shape:
    """A mapping of any names to these."""
    return lambda value: (
        next((said for part in value.values() if (said := shape(part))), "") if isinstance(value, dict) else "is no mapping"
    )


def checked(value: Any, shape: Shape) -> Any:
    """The value. Raises `WrongFactError`."""
    said = shape(value)
    if said:
        raise WrongFactError(said)
    return value


def _size(value: Any) -> str:
    return count(value) or ("" if value < 1 << 40 else "is no size")


def shape_of_tensor(value: Any) -> str:
    """The shape of a tensor."""
    return many(_size)(value) or ("" if len(value) <= 64 and math.prod(value) < 1 << 40 else "is no shape")


def outputs(value: Any) -> str:
    """The tensors that an op made or wrote, each as dtype, shape, stride and device."""
    if not isinstance(value, list):
        return "is no list"
    return next((said for part in value if (said := _output(part))), "")


def _output(value: Any) -> str:
    if not isinstance(value, list) or len(value) != 4:
        return "is no list of 4"
    dtype, shape, stride, device = value
    if not isinstance(stride, (list, type(None))) or (stride and isinstance(shape, list) and len(stride) != len(shape)):
        return "is no stride"
    return text(dtype) or many(_size)(shape) or (many(count)(stride) if stride is not None else "") or text(device)


def arguments(value: Any) -> str:
    """The arguments that an op writes: positions, and names of keyword-only ones."""
    return many(_argument)(value)


def _argument(value: Any) -> str:
    return "" if isinstance(value, str) else count(value)


def width(value: Any) -> str:
    """Bytes of an element of a tensor."""
    return count(value) or ("" if value <= 64 else "is no width of an element")
