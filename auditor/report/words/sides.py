"""What is not the same about the events of two runs at one place: the op, its arguments and results, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.report.words.text import contrasted, op_name, place, plain
from auditor.results import Divergence

#: What the facts of an event are called.
_NAMES = {"args": "arguments", "out": "result", "numbers": "number", "line": "at"}
#: Most characters of JSON that is read, and most results or arguments that are told one by one.
_LARGEST, _MOST = 20_000, 3


def both_sides(divergence: Divergence) -> list[tuple[str, str, str]]:
    """What is not the same about the two runs' own events there: (what, first run, second run)."""
    a, b = ({**side} for side in (divergence.detail.a, divergence.detail.b))
    if not a and not b:
        return []
    if not a or not b:
        ours, theirs = (op_name(str(side.get("op", ""))) if side else "the run has ended" for side in (a, b))
        return [("op", ours, theirs)]
    for side in (a, b):
        side.pop("digest", None)
        side["line"] = place(side.pop("file", None), side.pop("line", None))
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
    return [row for key in keys for row in _rows(key, a, b)]


def _rows(key: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """One fact in words; what cannot be read is shown as it is."""
    x, y = a.get(key, ""), b.get(key, "")
    told = {"out": _results, "args": _arguments}.get(key)
    if told is not None:
        rows = list(told(_parsed(x), _parsed(y)))
        if rows:
            return [(what, *contrasted(ours, theirs)) for what, ours, theirs in rows[:_MOST]]
    if key == "op":
        x, y = op_name(str(x)), op_name(str(y))
    return [(_NAMES.get(key, plain(key)), *contrasted(x, y))]


def _parsed(value: object) -> list[Any] | None:
    """A list in JSON; None for anything else."""
    if not isinstance(value, str) or len(value) > _LARGEST:
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _results(a: list[Any] | None, b: list[Any] | None) -> Iterator[tuple[str, str, str]]:
    """The results of which dtype, shape, stride or device are not the same."""
    if a is None or b is None:
        return
    if len(a) != len(b):
        yield "results", str(len(a)), str(len(b))
        return
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        if x != y:
            ours, theirs = _tensor(x, y), _tensor(y, x)
            if ours and theirs:
                yield ("result" if len(a) == 1 else f"result {k + 1}"), ours, theirs


def _tensor(value: Any, other: Any) -> str:
    """`float32 [62, 3]`, with stride and device where they are not those of the other; nothing for what is no tensor."""
    if not all(isinstance(one, list) and len(one) == 4 for one in (value, other)):
        return ""
    dtype, shape, stride, device = value
    said = [f"{dtype} {json.dumps(shape)}"]
    if stride != other[2]:
        said.append(f"stride {json.dumps(stride)}" if stride is not None else "contiguous")
    if device != other[3]:
        said.append(f"on {device}")
    return ", ".join(said)


def _arguments(a: list[Any] | None, b: list[Any] | None) -> Iterator[tuple[str, str, str]]:
    """The arguments that are not the same, by their names if they were given by name."""
    if a is None or b is None:
        return
    if len(a) != len(b):
        yield "arguments", ", ".join(map(_value, a)) or "none", ", ".join(map(_value, b)) or "none"
        return
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        if x == y:
            continue
        if isinstance(x, dict) and isinstance(y, dict):
            for name in dict.fromkeys([*x, *y]):
                if x.get(name) != y.get(name):
                    yield f"argument {name}", _value(x.get(name)), _value(y.get(name))
            continue
        before = a[k - 1] if k else None
        named = isinstance(before, str) and before.isidentifier()
        yield (f"argument {before}" if named else f"argument {k + 1}"), _value(x), _value(y)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else str(value) if isinstance(value, bool) else json.dumps(value)
