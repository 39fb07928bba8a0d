"""One thread's stream of records and events, as the probes see it.

Before torch is there (a script may draw from `random` first) records are written by `Lane.emit`; when the thread has its
first op its core takes over the numbering and replaces `emit` and `number` by its own, which keep them in closure cells (see
`core/python.py`).
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from auditor.record.callsite import Sites
from auditor.record.places import Places
from auditor.trace import RECORD, RECORD_SIZE
from auditor.trace.turns import Turns
from auditor.trace.writer import LaneWriter, Numbers

if TYPE_CHECKING:
    from auditor.record.core.protocol import Core

pack = struct.Struct(RECORD).pack_into


class Lane:
    """Tables, numbering and events of one thread."""

    def __init__(self, directory: str, ordinal: int, numbers: Numbers, role: dict[str, object], identity: list[int]) -> None:
        """Make the files; the record numbers are taken from those of the process."""
        self.role = role
        self.identity = identity
        self.writer = LaneWriter(directory, ordinal, numbers)
        self.line = self.writer.line
        self.sites = Sites(self.line)
        self.buffer, self.offset, self.end, first = self.writer.next_segment(0)
        self.last = self.base = first - 1
        self.ids: dict[str, int] = {"sig": 0, "module": 0, "leaf": 0, "name": 0, "place": 0}
        self.descriptors: dict[object, int] = {}
        self.core: Core | None = None
        """What records the thread's ops, once it has had one."""
        #: set between a backward() and the next graph in a script that has no optimizer
        self.unfinished_step: Any = None
        self.loss: Any = None
        self.stepping: list[Any] = []  # optimizers whose step is running, the outermost first
        self.places = Places(self.define)
        self.turns = Turns(kept=_TURNS_KEPT)
        self.update: dict[str, object] = {}  # what is to be written of the update that runs
        self.watched_enough = False
        self.deferring = False  # whether digests of the CPU's tensors, too, are made as those on a device are
        self.at_end: list[Callable[[], None]] = []  # what else is to be written before the end mark
        self._last_draw = _NO_DRAW
        self._drawn_at: set[int] = set()
        self.line({"k": "lane", "base": self.base, "started": time.time(), "role": role, "identity": identity})

    def define(self, table: str, entry: dict[str, object]) -> int:
        """Write a new line of a table and return its number."""
        number = self.ids[table] = self.ids[table] + 1
        self.line({"k": table, "id": number, **entry})
        return number

    def descriptor(self, kind: str, **what: object) -> int:
        """Number of the descriptor of a record that is not an op's output; for kinds with few different ones."""
        key = (kind, *what.items())
        found = self.descriptors.get(key)
        if found is None:
            found = self.descriptors[key] = self.define("sig", {"kind": kind, **what})
        return found

    def emit(self, descriptor: int, digest: int, site: int, rows: int = 0) -> int:
        """Write one record that has no producers; returns its number."""
        if self.offset == self.end:
            self.buffer, self.offset, self.end, first = self.writer.next_segment(self.last)
            self.last = first - 1
        self.last = number = self.last + 1  # taken and filled with no call between the two, see `core/python.py`
        offset = self.offset
        self.offset = offset + RECORD_SIZE
        pack(self.buffer, offset, digest, 0, site, 0, rows & 0xFFFFFFFF, rows >> 32, 0, 0, descriptor)
        return number

    def number(self) -> int:
        """Number of the last record written."""
        return self.last

    def position(self) -> int:
        """How many records there are."""
        return self.writer.position(self.number())

    def event(self, kind: str, where: bool = True, **facts: object) -> None:
        """Write a rare event: it lies behind the record `at`, and `site` is where in the user's code it comes from."""
        event: dict[str, object] = {"k": kind, "at": self.number(), **facts}
        if where:
            site = self.sites.site_of(sys._getframe(1))
            if site:
                event["site"] = site
        self.line(event)

    def draw(self, generator: object, stream: str, function: str, state_of: Callable[[Any], int]) -> None:
        """Note that a generator is drawn from; of many by one function with nothing in between, the first of each line."""
        last, by, state, at = self._last_draw
        again = last is generator and at == self.number()
        if _dynamo_traces():
            return
        site = self.sites.site_of(sys._getframe(2))
        if again and by == function and site in self._drawn_at:
            return
        was, state = state, state_of(generator)
        if again and was == state != 0:
            return  # one function of the library calls another
        if not again or by != function:
            self._drawn_at.clear()
        self._drawn_at.add(site)
        self.emit(self.descriptor("draw", stream=stream, function=function), state, site)
        self._last_draw = (generator, function, state, self.number())  # held, because an id is given to another generator later

    def seed(self, stream: str, function: str, value: object, entropy: bool, state: int, was: int | None = None) -> None:
        """Note that a generator was seeded; `entropy`: by the operating system; `was`: its state before, if that may have been the same."""
        if was == state or _dynamo_traces():
            return
        self._last_draw = _NO_DRAW
        self.event("seed", stream=stream, function=function, value=_seed_text(value), entropy=entropy, state=state)

    def close(self) -> None:
        """Write what is left to write, and the end mark."""
        for tell in self.at_end:
            tell()
        self.writer.close(self.number())


#: Updates that are numbered again when it turns out which belong together.
_TURNS_KEPT = 4096
_NO_DRAW: tuple[object, str, int, int] = (None, "", 0, -1)


def _dynamo_traces() -> bool:
    """Whether what happens is Dynamo looking ahead: it takes back what it drew."""
    guards = sys.modules.get("torch._guards")
    return guards is not None and guards.CompileContext.try_get() is not None


def _seed_text(value: object) -> str | None:
    """A seed as the script would write it; by its type if it is an object, whose repr is the user's and may have an address in it."""
    if value is None:
        return None
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__ != "builtins" and not kind.__module__.startswith("numpy"):
        return name
    text = repr(value)
    return name if " at 0x" in text else text[:200]
