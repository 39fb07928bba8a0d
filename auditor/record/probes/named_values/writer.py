"""Writes values down: whole if they are small and the budget allows, else their digest and sketch."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Protocol

from auditor.interruptions import interrupts
from auditor.record.probes.named_values.reading import Read, summary_of, whole
from auditor.trace import NAMED, NAMED_SIZE, SUMMARY_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.probes.named_values.common import Common
    from auditor.record.probes.named_values.objects import Owner
    from auditor.record.probes.named_values.source import Target

#: Bytes of a first value that is kept whole in any case, where the run is to lend its beginnings to another.
_FIRST_WHOLE = 1 << 26
_OVER_BUDGET = 4
#: Values that a lane has: 120 MB.
MOST = 5_000_000
#: Of every name so many are kept in any case, unless the budget is spent.
_SURELY = 64

put_record, _put_at = (struct.Struct(form).pack_into for form in (NAMED, "<Q"))
_AT = NAMED_SIZE - 8


class File(Protocol):
    """Memory that grows at its end."""

    used: int
    room: int
    memory: Any
    """What may be written, up to `room`."""


class Sink(Protocol):
    """Where named values go: a lane's files, or memory."""

    records: File
    values: File

    def define(self, entry: dict[str, object]) -> int:
        """Number of a new name."""

    def make_room(self, file: Any, need: int) -> bool:
        """Let one of the two have room for so many bytes; whether it has."""


class Writer:
    """The records and the values of one thread."""

    def __init__(self, common: Common, sink: Callable[[], Sink]) -> None:
        self.common = common
        self._open = sink
        self._sink: Sink | None = None
        self._ids: dict[Any, list[int]] = {}
        self._records: Any = None
        self._values: Any = None
        #: so much is kept of everything
        self._freely = common.budget // 2
        self._full = False
        self._last: dict[int, tuple[int, bytes]] = {}
        self._tensors: Any = None

    def renew(self) -> None:
        """Begin anew, in the child of a fork: what is open belongs to the parent."""
        self._full = False
        self._sink = self._records = self._values = None
        self._ids = {}
        self._last = {}

    def write(
        self, target: Target, text: str, kind: str, read: Read | None, value: Any, line: int, owner: Owner | None = None
    ) -> int:  # fmt: skip
        """Add a value: whole if it is small and the budget allows, else its digest and sketch. Returns the number of its name, or 0."""
        if read is None:
            return 0
        dtype, form, size, shape, elements, data = read
        sink = self._sink or self._opened()
        key = (target, text, dtype, shape, line, owner)
        found = self._ids.get(key)
        if found is None:
            number = sink.define({
                "name": text, "scope": target.scope, "file": target.file, "line": line, "kind": kind, "dtype": dtype, "as": form,
                "bytes": size, "shape": list(shape), **_owned(owner, text),
            })  # fmt: skip
            found = self._ids[key] = [number, 0]
            self.common.noted.add((target, text))
        number, count = found
        found[1] = count + 1
        common = self.common
        order, step = next(common.order), common.step_of(target.loop)
        if data is None and count == 0 and common.first_whole and elements * size <= _FIRST_WHOLE:
            data = whole(value, self._tensors)
        if data is not None and self._is_kept(count, len(data)):
            self._last.pop(number, None)
            at = self._keep(data)
            if at:
                self._add(number, step, order, at << 1)
            return number
        try:
            summary = summary_of(value, data, self._tensors)
        except Exception as error:  # whatever torch has against it, it must not end the user's program
            if interrupts(error):
                raise
            summary = None
        if summary is None:
            common.lose(f"a value of {dtype}, of which no sketch can be made")
            return number
        at = self._keep(summary)
        where = self._add(number, step, order, at << 1 | 1) if at else -1
        if data is not None and where >= 0:
            self._last[number] = (where, data)
        return number

    def define_object(self, target: Target, text: str, number: int, owner: Owner | None) -> None:
        """Add a name that an object of the user's has: no value, but what tells the attributes of several objects of a class apart."""
        sink = self._sink or self._opened()
        sink.define({
            "name": text, "scope": target.scope, "file": target.file, "line": target.line, "kind": "object", "object": number,
            "dtype": "", "as": "", "bytes": 0, "shape": [], **_owned(owner, text),
        })  # fmt: skip

    def _opened(self) -> Sink:
        sink = self._sink = self._open()
        self._records, self._values = sink.records, sink.values
        return sink

    def _keep(self, data: bytes) -> int:
        """Add what is kept of a value: its position in words of eight bytes plus one; 0 if there is no room."""
        values = self._values
        at, end = values.used, values.used + len(data)
        if end > values.room and not self._has_room(values, end, self.common.budget * _OVER_BUDGET):
            return 0
        values.memory[at:end] = data
        values.used = (end + 7) & -8
        return int(at >> 3) + 1

    def _add(self, number: int, step: int, order: int, at: int) -> int:
        records = self._records
        used: int = records.used
        if used + NAMED_SIZE > records.room and not self._has_room(records, used + NAMED_SIZE, MOST * NAMED_SIZE):
            return -1
        put_record(records.memory, used, number, step, order, at)
        records.used = used + NAMED_SIZE
        return used

    def _has_room(self, file: File, need: int, most: int) -> bool:
        """Let a file grow, if it is not to be the last time; a lane that has too many values gets no more."""
        if self._full or need > most:
            if not self._full:
                self.common.lose(f"all values of a thread after the first {self._records.used // NAMED_SIZE:,}")
            self._full, self._ids = True, {}
            return False
        assert self._sink is not None  # whoever writes has opened it
        return self._sink.make_room(file, need)

    def _is_kept(self, count: int, size: int) -> bool:
        """All while there is much room; then the first, and pairs ever more rarely: 64 of each further doubling of their number."""
        after = self._values.used + size
        if after <= self._freely or size <= SUMMARY_SIZE:
            return True
        if after > self.common.budget:
            return False
        if count < _SURELY:
            return True
        every = 1 << (count.bit_length() - 6)
        return count % every in (every - 1, 0)

    def close(self) -> None:
        """Keep the last value of each name whole."""
        self._last, last = {}, self._last
        for where, data in last.values():
            at = self._keep(data) if not self._full else 0
            if at:
                _put_at(self._records.memory, where + _AT, at << 1)


def _owned(owner: Owner | None, text: str) -> dict[str, object]:
    return {} if owner is None else {"of": owner.number, "part": text[owner.at :]}
