"""Begins a run with values of another: overwrites, in place, what a name got first by what another name got first in that run.

Reads the other run with the standard library alone, see `trace.NAMED`. Never draws a random number and never changes which object a name
has, but for a number, which has no place of its own. What could not be copied is said.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from collections.abc import Mapping
from typing import Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.trace import NAMED, NAMED_SIZE


class Start:
    """What is still to be copied, and what became of the rest."""

    def __init__(self, run: str, pairs: list[list[str]]) -> None:
        """Take the names of the other run and of this one; values are read when they are wanted."""
        self.told: list[dict[str, object]] = []
        self._waiting = {b: a for a, b in pairs}
        self._run = run
        self._found: dict[str, tuple[Mapping[str, Any], str, int]] | None = None

    def begin(self, name: str, value: Any, frame: Any) -> Any:
        """Overwrite a value if it is the first that a waited-for name gets; returns what the name has then."""
        theirs = self._waiting.pop(name, None)
        if theirs is None:
            return value
        try:
            how, value = self._copied(theirs, name, value, frame)
        except Exception as error:  # whatever it is, it must not end the user's program
            if interrupts(error):
                raise
            how = f"not copied: {type(error).__name__}: {error}"
        self.told.append({"a": theirs, "b": name, "how": how})
        return value

    def left(self) -> list[dict[str, object]]:
        """What was waited for in vain."""
        return [{"a": a, "b": b, "how": f"not copied: {b} got no value that can be overwritten"} for b, a in self._waiting.items()]

    def _copied(self, theirs: str, name: str, value: Any, frame: Any) -> tuple[str, Any]:
        if self._found is None:
            self._found = _first_values(os.path.join(self._run, "lanes"), {theirs, *self._waiting.values()})
        if theirs not in self._found:
            return f"not copied: {theirs} has no value in the other run, or none that was kept whole", value
        entry, file, offset = self._found[theirs]
        size = math.prod(entry["shape"]) * entry["bytes"]
        with open(file, "rb") as opened:
            opened.seek(offset)
            data = bytearray(opened.read(size))
        kind = type(value)
        if kind in (int, float):
            if math.prod(entry["shape"]) != 1 or entry["as"] not in ("<f8", "<i8", "<f4"):
                return "not copied: it is no single number in the other run", value
            number = struct.unpack({"<f8": "<d", "<i8": "<q", "<f4": "<f"}[entry["as"]], data)[0]
            return _put(frame, name, kind(number), value)
        np, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if np is not None and isinstance(value, np.ndarray):
            other = _typed_array(np, entry, data)
            how, other = _fitted(other, tuple(entry["shape"]), tuple(value.shape))
            if other is not None:
                value[...] = other
            return how, value
        if torch is not None and isinstance(value, torch.Tensor):
            with digest.Unseen():
                other = _typed_tensor(torch, entry, data)
                how, other = _fitted(other, tuple(entry["shape"]), tuple(value.shape))
                if other is not None:
                    value.data.copy_(other)
            return how, value
        return f"not copied: {name} is no array and no tensor", value


def _fitted(other: Any, theirs: tuple[int, ...], ours: tuple[int, ...]) -> tuple[str, Any]:
    """The other value in our shape, and what was done to it; None if it does not fit."""
    if theirs == ours:
        return "copied", other
    if math.prod(theirs) != math.prod(ours):
        return f"not copied: shape {list(theirs)} there, {list(ours)} here", None
    if len(theirs) == 2 and theirs[::-1] == ours:
        return "copied, transposed", other.T
    return f"copied, reshaped from {list(theirs)} to {list(ours)}", other.reshape(ours)


def _put(frame: Any, name: str, number: Any, old: Any) -> tuple[str, Any]:
    """Give a number to a variable of a frame, where that is possible."""
    if frame is None or not name.isidentifier():
        return "not copied: a number that lies in something else", old
    if not frame.f_code.co_flags & 0x1 or frame.f_locals is frame.f_globals:
        frame.f_globals[name] = number
    elif sys.version_info[:2] == (3, 12):
        return "not copied: Python 3.12 has no way to set a local variable of a function", old
    else:
        frame.f_locals[name] = number  # written back behind the trace function or, from 3.13 on, at once
    return "copied", number


def _typed_array(np: Any, entry: Mapping[str, Any], data: bytearray) -> Any:
    if entry["as"] == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << np.uint32(16)).view("<f4").reshape(entry["shape"])
    return np.frombuffer(data, entry["as"]).reshape(entry["shape"])


def _typed_tensor(torch: Any, entry: Mapping[str, Any], data: bytearray) -> Any:
    kinds = {
        "<f2": "float16", "<f4": "float32", "<f8": "float64",
        "<c8": "complex64", "<c16": "complex128", "|b1": "bool", "bfloat16": "bfloat16",
        "<i8": "int64", "<i4": "int32", "<i2": "int16", "<i1": "int8", "|i1": "int8", "<u1": "uint8", "|u1": "uint8",
    }  # fmt: skip
    return torch.frombuffer(data, dtype=getattr(torch, kinds[entry["as"]])).reshape(entry["shape"])


def _first_values(lanes: str, wanted: set[str]) -> dict[str, tuple[Mapping[str, Any], str, int]]:
    """Where the first value of each name lies: its entry in the table, the file, the offset. The main lane goes first."""
    from auditor.trace.names import told_apart

    found: dict[str, tuple[Mapping[str, Any], str, int]] = {}
    for table in sorted(name for name in os.listdir(lanes) if name.endswith(".names.json")):
        path = os.path.join(lanes, table.removesuffix(".names.json"))
        with open(path + ".names.json", encoding="utf-8") as opened:
            table_of_names = json.load(opened)
        with open(path + ".nam", "rb") as opened_records:
            data = opened_records.read()
        records = memoryview(data)[: len(data) // NAMED_SIZE * NAMED_SIZE]
        extents: dict[int, tuple[int, int, int]] = {}
        for number, step, order, _ in struct.iter_unpack(NAMED, records):
            first = extents.get(number)
            extents[number] = (step, order, order) if first is None else (first[0], first[1], order)
        entries = told_apart(table_of_names, extents)
        met = set(found)
        for number, _, _, at in struct.iter_unpack(NAMED, records):
            entry = entries.get(number)
            if entry is None or entry["kind"] == "gradient" or entry["name"] not in wanted or entry["name"] in met:
                continue
            met.add(entry["name"])
            if at and not at & 1:
                found[entry["name"]] = entry, path + ".val", ((at >> 1) - 1) * 8
    return found
