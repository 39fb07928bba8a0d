"""What the parts of a record mean to those who read it: the only place that knows how they are packed.

What an op does to its arguments is said by its schema and kept in its descriptor (`sig`, key `schema`), so that an op of an extension is
seen as one of ATen's is. Runs that were recorded before this key was there have names alone: `schema_by_name` says what these tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from auditor.trace import EXTERNAL, ops
from auditor.trace.ops import OpSchema
from auditor.trace.shapes import Shape, arguments, checked, load, outputs

#: Dtypes that are rounded; others are equal or they are not.
_ROUNDED = ("float", "bfloat", "complex")


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a sealed lane: an op, the first sight of an external tensor, or a draw. The fields are those of `schema.COLUMNS`."""

    row: int
    record: int
    index: int
    kind: str
    op: str
    args: str | None = None
    numbers: str | None = None
    out: str | None = None
    digest: int = 0
    digests: str | None = None
    in0: int | None = None
    in1: int | None = None
    in2: int | None = None
    inputs: str | None = None
    rows: int | None = None
    phase: str | None = None
    cut: bool | None = None
    node: bool | None = None
    step: int | None = None
    module: str | None = None
    leaf: str | None = None
    leaf_written: int | None = None
    file: str | None = None
    line: int | None = None
    function: str | None = None
    code: str | None = None
    forward_row: int | None = None
    forward_file: str | None = None
    forward_line: int | None = None
    forward_code: str | None = None
    site: int | None = None
    what: int = 0
    exact: bool | None = None
    writes: str | None = None
    in_place: bool | None = None
    overwrites: bool | None = None
    view: bool | None = None
    random: bool | None = None
    collective: bool | None = None

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Record:
        """The record of a row of the table; columns that a version did not write are unknown, and columns of a later one are left out."""
        known = {name: columns[name] for name in cls.__slots__ if columns.get(name) is not None}
        return cls(**{"op": ""} | known)

    @property
    def schema(self) -> OpSchema:
        """What the op does to its arguments."""
        return schema_in({name: getattr(self, name) for name in ("kind", "op", "writes", "in_place", *OpSchema._fields[1:])})

    @property
    def made_by(self) -> list[int]:
        """Rows of the records that last wrote what the op took in; below -1 those of other lanes.

        What is overwritten unread (the first argument of `copy_`) is no input.
        """
        first = [row for row in (self.in0, self.in1, self.in2) if row is not None]
        rows = listed(self.inputs) or first
        return rows[1:] if self.in0 is not None and self.schema.overwrites else rows

    @property
    def outputs(self) -> list[Output]:
        """The tensors that the op made or wrote."""
        return outputs_of(self.out)

    @property
    def elements(self) -> int:
        """Number of elements of its first output; 0 if that is not known."""
        return next((output.elements for output in self.outputs), 0)

    @property
    def is_external(self) -> bool:
        """Whether it is the first sight of a tensor that no record made."""
        return self.kind == EXTERNAL


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


#: Fields of events that had other names at first, when some of them had a second meaning in another kind.
_RENAMED = {
    "setting": {"first": "initial"},
    "backward": {"first": "graph"},
    "autocast": {"first": "enabled", "name": "device", "value": "dtype"},
    "entered": {"mode": "asked_by"},
}


def with_todays_names(event: dict[str, Any]) -> dict[str, Any]:
    """An event of a run of any age with the names that its fields have now."""
    renamed = _RENAMED.get(event["k"], {})
    if event["k"] == "file" and event.get("op") == "list":
        renamed = {"mode": "asked_by"}
    return {renamed.get(name, name): value for name, value in event.items()} if renamed.keys() & event.keys() else event


def schema_of(descriptor: Mapping[str, Any]) -> OpSchema:
    """What the descriptor of an op says of its arguments, or of an older one its name."""
    said = descriptor.get("schema")
    if not isinstance(said, Mapping):
        return schema_by_name(str(descriptor.get("op") or ""))
    known = {name: said[name] for name in OpSchema._fields if name in said}
    return OpSchema(**known | {"writes": tuple(known.get("writes", ()))})


def schema_by_name(op: str) -> OpSchema:
    """What the name of an op tells of its arguments, where its descriptor does not."""
    name = op.split(".")[1] if op.count(".") > 1 else ""
    in_place = (name.endswith("_") and not name.endswith("__") and name != "_") or (name.startswith("__i") and name.endswith("__"))
    return OpSchema(
        (0,) if in_place else (), op.startswith(ops.OVERWRITING), name in ops.WRITING_NOTHING, collective=op.startswith(ops.COLLECTIVES)
    )


def schema_in(row: Mapping[str, Any]) -> OpSchema:
    """What a record says of its op's arguments, or the name of its op where the run is an older one."""
    if row.get("kind", "op") != "op":
        return OpSchema()
    if row.get("in_place") is None:
        return schema_by_name(row["op"] or "")
    flags = (bool(row.get(name)) for name in OpSchema._fields[1:])
    return OpSchema(tuple(_parsed(row.get("writes"), arguments)), *flags)


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
    found = _parsed(text, outputs)
    return [Output(dtype, tuple(shape), None if stride is None else tuple(stride), device) for dtype, shape, stride, device in found]


def _parsed(text: str | None, shape: Shape) -> list[Any]:
    try:
        return list(checked(load(text.encode()), shape)) if text else []
    except ValueError:
        return []
