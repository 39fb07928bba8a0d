"""What comes out of an op: its descriptor (op, dtypes, shapes, strides, devices, plain arguments) and how its bytes are digested."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.core.inputs import INTERNED_LIMIT, readable
from auditor.record.core.measures import by_result

if TYPE_CHECKING:
    from auditor.record.core.op_facts import OpFacts
    from auditor.record.core.pending import Pending
    from auditor.record.core.tensors import Meta, Tensors
    from auditor.record.lane import Lane

#: In the place of plain arguments, where there can be none.
_NO_ARGUMENTS = object()


class Outputs:
    """The descriptors of one lane. `known` has, of an op and its outputs, the descriptor's number and what `define` says with it."""

    def __init__(self, lane: Lane, torch: Any, tensors: Tensors, pending: Pending, plain_key: Callable[[Any], Any]) -> None:
        self._lane = lane
        self._strided = torch.strided
        self._plain_key = plain_key
        self._meta = tensors.meta
        self._deferring = bool(lane.deferring)  # of the CPU's tensors too
        self.pending_digest = pending.digest_of
        self.known: dict[Any, tuple[int, Any, Any]] = {}
        self.numbers: dict[type, int] = {}

    def define_number(self, facts: OpFacts, out: Any) -> int:
        """Number of the descriptor of an op that returns a Python number of this type."""
        kind = out.__class__
        number = self.numbers[kind] = self._define(facts, [(kind.__name__, [], None, "")])
        return number

    def define(self, facts: OpFacts, out: Any, key: Any) -> tuple[int, Any, Any]:
        """Describe a combination of op and output met for the first time; `key` is the one by which it is known from then on.

        With the number goes how to read the output and whether from a copy; where it is not read as it lies, how it is measured, if it is.
        """
        self._make_room()
        shape = self._meta(out)
        number = self._define(facts, [shape], readable(key[4]))
        measured = by_result(facts.name, shape[0])
        way = (None, measured) if measured else (None, False) if self._deferring else _way_to_read(out, self._strided)
        known = self.known[key] = (number, *way)
        return known

    def define_several(self, facts: OpFacts, found: list[Any], returned: int, key: Any) -> tuple[int, Any, Any]:
        """The same for an op with any number of outputs; its second part is a digesting function for each, None where unread."""
        self._make_room()
        number = self._define(facts, [self._meta(tensor) for tensor in found], readable(key[1]))
        readers = [
            None if is_unread(facts, place, returned)
            else self.pending_digest if self._deferring or not tensor.is_cpu
            else _reader(tensor, self._strided)
            for place, tensor in enumerate(found)
        ]  # fmt: skip
        known = self.known[key] = (number, readers, False)
        return known

    def of_metas(self, facts: OpFacts, metas: list[Meta], key: Any) -> int:
        """Number of the descriptor of an op whose outputs had to be asked one by one."""
        what = ("asked", facts.name, tuple(metas), key)
        known = self.known.get(what)
        if known is None:
            known = self.known[what] = (self._define(facts, metas, readable(key)), None, False)
        return known[0]

    def of_graph(self, op: str, shapes: list[Meta]) -> int:
        """Number of the descriptor of compiled code with outputs like these."""
        key = ("graph", tuple(shapes))
        known = self.known.get(key)
        if known is None:
            known = self.known[key] = (self._lane.define("sig", {"kind": "op", "op": op, "out": shapes, "args": []}), None, False)
        return known[0]

    def unusual(self, facts: OpFacts, found: list[Any], returned: int, key: Any) -> tuple[int, list[int]]:
        """Descriptor and digests of outputs of which some do not answer like dense tensors; never raises."""
        metas: list[Meta] = []
        digests = []
        for position, tensor in enumerate(found):
            try:
                metas.append(self._meta(tensor))
                digests.append(0 if is_unread(facts, position, returned) else digest.of_tensor(tensor))
            except Exception as error:  # a tensor without readable memory, a wrapper, something that is no tensor
                if interrupts(error):
                    raise
                metas[position:] = [(type(tensor).__name__, (), None, "")]
                digest.count_unread(tensor)
                digests.append(0)
        return self.of_metas(facts, metas, self._plain_key(key)), digests

    def digests(self, readers: list[Any], found: list[Any], most: int) -> list[int]:
        """Digests of an op's outputs, each by its reader."""
        if self.pending_digest not in readers:
            return [0 if read is None else read(tensor) for read, tensor in zip(readers, found, strict=True)]
        return [
            0 if read is None else read(tensor) if read is not self.pending_digest else self.digest_of(tensor, k, most, len(readers))
            for k, (read, tensor) in enumerate(zip(readers, found, strict=True))
        ]

    def digest_of(self, tensor: Any, place: int, most: int, many: int) -> int:
        """Digest of the output at a place; of more than `most` outputs none can wait for its device, having no place of its own."""
        waits = (self._deferring or not tensor.is_cpu) and many <= most
        return self.pending_digest(tensor, place) if waits else digest.of_tensor(tensor)

    def _define(self, facts: OpFacts, out: object, args: object = _NO_ARGUMENTS) -> int:
        """A new descriptor: what is compared, and what a reader must know of the op beside it."""
        what: dict[str, object] = {"kind": "op", "op": facts.name, "out": out, "schema": facts.schema}
        if args is not _NO_ARGUMENTS:
            what["args"] = args
        if facts.exact:
            what["exact"] = True
        return self._lane.define("sig", what)

    def _make_room(self) -> None:
        if len(self.known) > INTERNED_LIMIT:
            self.known.clear()


def is_unread(facts: OpFacts, position: int, returned: int) -> bool:
    """Whether the bytes of an output say nothing: memory that has its digest, that nobody has written yet, or of a workspace."""
    return facts.shares or (facts.empty and position < returned) or position in facts.workspaces


def _way_to_read(tensor: Any, strided: Any) -> tuple[Any, bool]:
    """`(from_address, copied)`: how the bytes of tensors of this type, shape and stride are read; `(None, False)`: by `digest.of_tensor`.

    Elements that fill their memory without gaps or overlap are read as they lie, in whatever order; with gaps, from a contiguous copy.
    """
    if tensor.layout is not strided or tensor.device.type != "cpu" or tensor.is_complex() or not tensor.nbytes:
        return None, False
    dims = [(stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1]
    expected = 1
    for stride, size in sorted(dims):
        if stride != expected:
            in_order = dims == sorted(dims, key=lambda dim: -dim[0])  # else its physical order is not that of a contiguous copy
            return (digest.array_type(tensor.nbytes).from_address, True) if in_order else (None, False)
        expected *= size
    return digest.array_type(tensor.nbytes).from_address, False


def _reader(tensor: Any, strided: Any) -> Callable[[Any], int]:
    """A function from tensors like this one to their digests."""
    read, copied = _way_to_read(tensor, strided)
    if read is None or copied:
        return digest.of_tensor

    def of_dense(dense: Any) -> int:
        pointer = dense.data_ptr()
        return digest.of_bytes(read(pointer)) if pointer else digest.of_tensor(dense)

    return of_dense
