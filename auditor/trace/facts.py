"""The types of what a run says of itself: everything that is read from its JSON is held against these before anybody asks for it.

A run may come from somebody else, or be damaged. What is known must be what it should be; what is not known is left alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

#: What one value must be: gives back what is wrong with it, or nothing.
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


def maybe(shape: Shape) -> Shape:
    """The same, or null."""
    return lambda value: "" if value is None else shape(value)


def many(shape: Shape, length: int | None = None) -> Shape:
    """A list of these."""

    def wrong(value: Any) -> str:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            return "is no list" if length is None else f"is no list of {length}"
        return next((said for part in value if (said := shape(part))), "")

    return wrong


def table(shapes: Mapping[str, Shape], *needed: str) -> Shape:
    """A mapping in which the keys that are known have these, and the needed ones are there."""

    def wrong(value: Any) -> str:
        if not isinstance(value, dict):
            return "is no mapping"
        missing = next((key for key in needed if key not in value), None)
        if missing is not None:
            return f"has no {missing}"
        return next((f"has a {key} that {said}" for key, shape in shapes.items() if key in value and (said := shape(value[key]))), "")

    return wrong


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


def _shape(value: Any) -> str:
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


def _bytes(value: Any) -> str:
    return count(value) or ("" if value <= 64 else "is no width of an element")


_PLAN = table(
    {
        "script": many(text), "cwd": text, "python": text, "level": text, "window": maybe(many(count, 2)), "copies": many(many(text, 2)),
        "device": maybe(text), "shadow": maybe(text), "names": maybe(flag), "timeout": maybe(number), "steps": maybe(whole),
        "pinned": many(text), "varied": many(text), "watch": many(table({})), "sketch": maybe(flag), "outputs": many(text),
    }
)  # fmt: skip

#: run.json. Whoever launched it is there for as long as it may still be going on.
META = table(
    {
        "format": whole, "id": maybe(text), "role": maybe(text), "script": maybe(many(text)), "cwd": maybe(text), "plan": maybe(_PLAN),
        "exit": maybe(whole), "error": maybe(text), "seconds": maybe(number), "stopped": maybe(text), "pinned": maybe(many(text)),
        "varied": maybe(many(text)), "machine": maybe(mapping(scalar)), "versions": maybe(mapping(scalar)),
        "environment": maybe(mapping(scalar)), "script_digest": maybe(text), "pid": maybe(whole), "started": maybe(number),
        "device": maybe(text), "ports": maybe(many(text)), "written": maybe(mapping(maybe(text))),
        "unseen": maybe(many(table({"pids": many(whole), "at": number}, "pids", "at"))),
        "launcher": maybe(table({"pid": count, "began": maybe(count), "boot": maybe(text)}, "pid")),
    },
    "format",
)  # fmt: skip

PROCESS = table(
    {
        "format": whole, "pid": maybe(count), "ppid": maybe(count), "started": maybe(number), "began": maybe(count), "argv": many(text),
        "executable": maybe(text), "python": maybe(text), "parent": maybe(text), "fork": maybe(count), "rank": maybe(scalar),
    }
)  # fmt: skip

_KEPT = table({"slot": text, "dtype": text, "shape": _shape, "digest": maybe(whole), "file": text, "producer": maybe(count)}, "slot")
_PLACE = {"file": maybe(text), "line": maybe(whole), "func": maybe(text), "code": maybe(text)}

#: What any event may have, beside what those of its kind have.
_ANY_EVENT: dict[str, Shape] = {**_PLACE, "k": text, "row": count, "at": count, "site": count, "importing": maybe(flag)}
_COUNTS = maybe(whole)
#: What the events of each kind have; a key with a star must be there.
_EVENTS: dict[str, dict[str, Shape]] = {
    "seed": {"function*": text, "stream*": text, "value": scalar, "entropy": maybe(flag), "state": _COUNTS},
    "setting": {"name*": text, "value*": scalar, "first": maybe(flag), "unknown": maybe(flag)},
    "step": {
        "step": _COUNTS, "of": _COUNTS, "had": _COUNTS, "loss": maybe(number), "loss_digest": _COUNTS, "parameters": _COUNTS,
        "gradients": _COUNTS, "state": _COUNTS, "optimizer": maybe(text), "rng": _COUNTS,
        "by": whole, "made": count, "born": count, "place": count,
    },
    "file": {
        "path*": text, "op*": text, "mode": maybe(text), "digest": _COUNTS, "size": _COUNTS, "partial": maybe(flag), "own": maybe(flag),
        "opened_at": count, "changed_at": count,
    },
    "thread": {"number": _COUNTS, "name": maybe(text)},
    "value": {"values*": many(_KEPT)},
    "level": {"level*": text},
    "lost": {"what*": text, "count": count},
    "optimizer": {"number": _COUNTS, "name": maybe(text), "leaves": maybe(many(maybe(text))), "written": maybe(many(whole))},
    "zeroed": {"number": _COUNTS},
    "schedule": {"number": _COUNTS, "name": maybe(text)},
    "backward": {"root": _COUNTS, "first": maybe(flag)},
    "autocast": {"op": text, "name": maybe(text), "value": scalar, "first": maybe(flag)},
    "measured": {
        "what*": text, "values": _COUNTS, "changed": _COUNTS, "largest": maybe(number), "absolute": maybe(number), "overflowed": _COUNTS,
        "vanished": _COUNTS, "of": _COUNTS,
    },
    "nonfinite": {"nans": _COUNTS, "infinities": _COUNTS, "given": maybe(flag)},
    "entered": {
        "factor*": text, "function": maybe(text), "nth": _COUNTS, "mode": maybe(text), "in_order": maybe(flag), "thread": _COUNTS,
    },
    "unshadowed": {"op*": text, "why": maybe(text), "count": count},
    "unsketched": {"op*": text, "count": count},
    "shared": {},
    "shared-start": {"a": maybe(text), "b": maybe(text), "how": maybe(text)},
    "handed": {"function": maybe(text), "shape": _shape, "digest": _COUNTS},
    "came": {"function": maybe(text)},
    "interrupted": {"op*": text},
    "task": {"name": maybe(text)},
    "loaded": {
        "name": maybe(text), "given": _COUNTS, "missing": _COUNTS, "unexpected": _COUNTS, "missing_names": maybe(many(text)),
        "unexpected_names": maybe(many(text)), "written": maybe(many(whole)),
    },
    "unseen-write": {"leaf": scalar},
    "child": {
        "pid": maybe(whole), "program": maybe(text), "python": maybe(flag), "helper": maybe(flag), "since": maybe(number),
        "until": maybe(number),
    },
}  # fmt: skip
_SHAPES = {
    kind: table(_ANY_EVENT | {key.rstrip("*"): shape for key, shape in of.items()}, *(key[:-1] for key in of if key.endswith("*")))
    for kind, of in _EVENTS.items()
}
_OTHER = table(_ANY_EVENT)
EVENT_KINDS = frozenset(_EVENTS)


def event(value: Any) -> str:
    """A rare event of any kind."""
    kind = value.get("k") if isinstance(value, dict) else None
    return _SHAPES.get(kind, _OTHER)(value) if isinstance(kind, str) else "is an event without a kind"


def is_known(kind: str, key: str) -> bool:
    """Whether it is held against a type what events of a kind have under this key."""
    return key in _ANY_EVENT or not {key, f"{key}*"}.isdisjoint(_EVENTS.get(kind, ()))


def _with_row(value: Any) -> str:
    return event(value) or ("" if "row" in value else "is an event without a row")


#: lanes/<k>.json
LANE = table(
    {
        "format": whole, "name": text, "role": maybe(mapping(scalar)), "identity": many(whole), "rank": maybe(scalar),
        "pid": maybe(whole), "ended": flag, "unknown": count, "torch": maybe(text), "stopped": text, "started": maybe(number),
        "executable": maybe(text), "base": count, "parent": maybe(whole), "importing": many(count), "records": count, "ops": count,
        "steps": count, "events": many(_with_row), "names": maybe(count),
    },
    "name", "ended", "unknown", "torch", "stopped", "records", "ops", "steps", "events",
)  # fmt: skip

#: lanes/index.json
INDEX = table({"format": whole, "processes": many(PROCESS), "lanes": count}, "format", "processes", "lanes")

#: Lines of a lane's tables.
LINES: dict[str, Shape] = {
    "sig": table(
        {
            "id": count, "kind": text, "op": maybe(text), "function": maybe(text), "stream": maybe(text), "out": outputs,
            "schema": table({"writes": arguments, "overwrites": flag, "view": flag, "random": flag, "collective": flag}),
        },
        "id", "kind",
    ),
    "site": table(
        {"id": count, "file": text, "line": maybe(whole), "func": maybe(text), "importing": maybe(flag)}, "id", "file", "line", "func"
    ),
    "module": table({"id": count, "path": text}, "id", "path"),
    "leaf": table({"id": count, "name": text}, "id", "name"),
    "name": table(
        {
            "id": count, "name": text, "scope": text, "file": text, "line": whole, "kind": text, "dtype": text, "as": text,
            "bytes": _bytes, "shape": _shape, "of": maybe(count), "object": maybe(count), "part": maybe(text),
        },
        "id", "name", "scope", "file", "line", "kind",
    ),
    "place": table({"id": count, "frames": many(many(whole, 2)), "loops": many(many(whole, 2))}, "id", "frames", "loops"),
    "lane": table({"role": mapping(scalar), "identity": many(whole), "base": count, "started": number}),
    "role": table({"role": mapping(scalar), "identity": many(whole)}, "role"),
    "torch": table({"version": text}, "version"),
    "stopped": table({"why": text}),
}  # fmt: skip
#: lanes/<k>.names.json
NAMES = many(LINES["name"])
