"""What goes into an op: for each tensor the record that last wrote it, for numbers their binary form, for everything else a key.

**Whose storage is it.** The number of the record that last wrote a storage is an attribute of the storage object. Storages keep
their Python object for as long as they live, so it survives views, `detach`, saved tensors and collection of the tensor; a table by
address does not (17 % of the producers of a `from_numpy` loop were wrong), and an attribute of the tensor would be pickled with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.core.handed_memory import content_of
from auditor.trace import CHANGED
from auditor.trace.ops import COMPILED

if TYPE_CHECKING:
    from auditor.record.core.op_facts import OpFacts
    from auditor.record.core.pending import Pending
    from auditor.record.core.tensors import Meta, Tensors
    from auditor.record.lane import Lane

#: Entries of a table of what was seen before; at more it is begun anew, and equal things may then have two numbers.
INTERNED_LIMIT = 200_000

#: `(descriptor, digest, site, rows)` -> the number of a record without producers.
Emit = Callable[[int, int, int, int], int]


class Inputs:
    """The producers, numbers and keys of one lane."""

    def __init__(self, lane: Lane, torch: Any, tensors: Tensors, pending: Pending, emit: Emit) -> None:
        self._lane = lane
        self._tensor, self._parameter, self._size = torch.Tensor, torch.nn.Parameter, torch.Size
        self._plain = (int, bool, str, torch.dtype, torch.device, torch.memory_format, torch.layout)
        self._tensors = tensors
        self._pending = pending
        self._emit = emit
        self._meta = tensors.meta
        self._descriptors: dict[Any, int] = {}
        self.number_ids: dict[tuple[float, ...] | str, int] = {}
        self.in_graph = False
        """Whether compiled code runs: an external tensor that an op of it meets is memory that it made itself."""
        self.met_external: Callable[[int, Any], None] | None = None
        """Called with the number of an external tensor's record and the tensor."""

    def producer_of(self, tensor: Any) -> int:
        """Number of the record that last wrote a tensor's storage; 0 for an external tensor, which is not digested."""
        if self._tensors.is_another_modes(tensor):  # what it wraps has the history
            return max([self.producer_of(part) for part in digest.parts_of(tensor)], default=0)
        storage: Any = None
        try:
            storage = tensor.untyped_storage()
            number: int = storage._repro_audit
        except Exception as error:  # no storage, or one that nobody has written under our eyes
            if interrupts(error):
                raise
            handed = getattr(storage, "_repro_audit_handed", None) if storage is not None else None
            if handed is None:
                return 0
            self._pending.look_again(storage)
            number = handed.number
        return number

    def external(self, tensor: Any, site: int) -> int:
        """Record a tensor that no recorded op made; the number of its record, 0 if it has no storage that can be read."""
        try:
            storage = tensor.untyped_storage()
        except Exception as error:  # sparse, opaque and wrapper tensors have no storage; each says so in its own way
            if interrupts(error):
                raise
            return 0
        handed = getattr(storage, "_repro_audit_handed", None)
        if handed is not None:
            content = content_of(storage)
            self._pending.look_again(storage)  # the op that runs may write it
            if handed.number and handed.digest == content:
                return int(handed.number)
            handed.digest = content
        try:
            shape = self._meta(tensor)
            value, rows = digest.of_tensor(tensor), digest.of_rows(tensor) if tensor.dim() else 0
        except Exception as error:  # a tensor without readable memory, or a wrapper
            if interrupts(error):
                raise
            digest.count_unread(tensor)
            return 0
        changed = handed is not None and handed.number > 0  # it was written by an op or read by one, and holds something else now
        number = self._emit(self._descriptor(shape, changed), value, site, rows)
        came = getattr(storage, "_repro_audit_came", None)
        if came is not None and came[2] == self._lane.base:
            self._lane.line({"k": "came", "at": number, "function": came[0], **({"site": came[1]} if came[1] else {})})
        if self.met_external is not None:
            self.met_external(number, tensor)
        if handed is not None:
            handed.number = number
            return number
        try:
            storage._repro_audit = number
        except Exception as error:  # a storage type without attributes: the tensor stays external
            if interrupts(error):
                raise
        return number

    def _descriptor(self, shape: Meta, changed: bool) -> int:
        key = (shape, changed, self.in_graph)
        known = self._descriptors.get(key)
        if known is None:
            facts: dict[str, object] = {"kind": "external", "out": [shape]}
            if changed:
                facts["args"] = CHANGED
            if self.in_graph:
                facts["op"] = COMPILED
            known = self._descriptors[key] = self._lane.define("sig", facts)
        return known

    def take(self, value: Any, site: int, producers: list[int], key: list[Any], floats: list[float]) -> None:
        """Take apart one argument of an op: a tensor adds its producer, a float itself, everything else adds to the key."""
        c = value.__class__
        if c is self._tensor or c is self._parameter or isinstance(value, self._tensor):
            try:
                producers.append(value.untyped_storage()._repro_audit)
            except Exception as error:  # no storage, or a storage nobody has written under our eyes
                if interrupts(error):
                    raise
                producers.append(self.external(value, site))
        elif c is list or c is tuple:
            if value and isinstance(value[0], (self._tensor, list, tuple, type(None))):
                for part in value:
                    self.take(part, site, producers, key, floats)
                key.append(len(value))
            else:
                key.append(self.plain_key(value))
        elif c is dict:
            for name, part in value.items():
                key.append(name)
                self.take(part, site, producers, key, floats)
        elif c is float:
            floats.append(value)
        else:
            key.append(self.plain_key(value))

    def plain_key(self, value: Any) -> Any:
        """A hashable stand-in for a non-tensor argument that is the same in every run and keeps nothing of the user's alive."""
        c = value.__class__
        if c in self._plain or value is None:
            return value
        if c is list or c is tuple or c is self._size:
            return tuple([self.plain_key(part) for part in value])
        if c is float or c is complex:
            return repr(value)  # within a list: a nan as a key would never be found again
        if isinstance(value, (int, str)):
            return value + 0 if isinstance(value, int) else str(value)
        return c.__name__

    def keep_numbers(self, floats: tuple[float, ...]) -> int:
        """Number of a tuple of floats.

        They change from step to step (a learning rate, Adam's corrections), so they are kept apart from the descriptor, in binary. A nan is
        never found again, because its hash is its identity; that costs a few bytes. Zeros are found by their text, because -0.0 equals 0.0.
        """
        key: Any = repr(floats) if 0.0 in floats else floats
        found = self.number_ids.get(key)
        if found is None:
            if len(self.number_ids) > INTERNED_LIMIT:
                self.number_ids.clear()
            found = self.number_ids[key] = self._lane.writer.numbers(floats)
        return found

    @digest.unseen
    def writers_of_written(self, facts: OpFacts, args: Any, kwargs: Any) -> list[int]:
        """The records that last wrote what an op writes into."""
        return [self.producer_of(tensor) for tensor in self._tensors.within(facts.written(args, kwargs), [])]


def readable(value: Any) -> object:
    """A key as JSON."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [readable(part) for part in value]
    return str(value)
