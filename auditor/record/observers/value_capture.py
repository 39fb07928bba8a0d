"""Value capture: within a window of records, digest every input of every op before it runs, and keep the values.

What is kept tells where a difference was introduced from what only propagates it: an input that no recorded op changed but that differs
between the runs was written by something else (`hidden-write`) or never written at all (`uninitialized`: it still holds what it was born
with).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.core.protocol import Observer
from auditor.record.core.tensors import Tensors
from auditor.trace import lane_name
from auditor.trace.writer import make_folder

if TYPE_CHECKING:
    from auditor.record.core.op_facts import OpFacts
    from auditor.record.lane import Lane
    from auditor.record.process import Process

#: Bytes kept of one tensor and of one lane. A larger tensor has its digest only.
VALUE_LIMIT = 8 << 20
LANE_LIMIT = 512 << 20
_BIRTH_LIMIT = 4 << 20
#: Tensors of one op that are captured, of its inputs and of its outputs.
_TENSORS = 64

#: What is captured of one tensor: `slot`, `digest` and, of one whose bytes are kept, `dtype`, `shape` and `file`.
Value = dict[str, object]


class ValueCapture(Observer):
    """The values of one lane within its window."""

    def __init__(self, process: Process, lane: Lane, torch: Any, window: dict[str, Any], to_the_end: bool) -> None:
        """`window` has the first and the last position; unless `to_the_end`, the run is ended once it is past."""
        self._lane, self._torch, self._tensors = lane, torch, Tensors(torch)
        self._first, self._last, self._to_the_end = window["first"], window["last"], to_the_end
        self._folder = os.path.join(process.settings["run"], "values")
        self._prefix = f"{os.path.basename(process.directory)}-{os.path.basename(lane.writer.path)}"
        self._kept = 0

    def before(self, op: OpFacts, args: Any, kwargs: Any) -> list[Value] | None:
        """The values of the inputs; None outside the window."""
        position = self._lane.position()
        if position > self._last:
            self._lane.watched_enough = not self._to_the_end
        if not self._first <= position <= self._last or op.collective:
            return None
        return self._inputs(op, args, kwargs)

    def after(self, op: OpFacts, args: Any, kwargs: Any, out: Any, kept: list[Value] | None, number: int) -> None:
        """Write down the values of inputs and outputs."""
        if self._lane.watched_enough:
            return
        if op.empty and isinstance(out, self._torch.Tensor):
            self._keep_birth(out)
        if kept is not None:
            found = self._tensors.within(out, [])
            self._tensors.within(op.written(args, kwargs), found)
            different = [tensor for k, tensor in enumerate(found[:_TENSORS]) if not any(tensor is other for other in found[:k])]
            outputs = [self._saved(f"out{position}", tensor) for position, tensor in enumerate(different)]
            self._lane.line({"k": "value", "at": self._lane.number(), "values": [*kept, *outputs]})

    @digest.unseen
    def _saved(self, slot: str, tensor: Any) -> Value:
        """Digest a tensor in logical order and keep its bytes."""
        if tensor.layout is not self._torch.strided or tensor.device.type == "meta":
            return {"slot": slot, "digest": digest.of_tensor(tensor)}
        flat = tensor.detach()
        if flat.is_conj() or flat.is_neg():
            flat = flat.resolve_conj().resolve_neg()
        flat = flat.contiguous().cpu()
        fact: Value = {"slot": slot, "dtype": str(flat.dtype)[6:], "shape": list(flat.shape), "digest": digest.of_tensor(flat)}
        size = flat.nbytes
        if size and flat.data_ptr() and size <= VALUE_LIMIT and self._kept + size <= LANE_LIMIT:
            file = f"{self._prefix}-{self._kept:x}.bin"
            try:
                make_folder(self._folder)
                fd = os.open(os.path.join(self._folder, file), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.fchmod(fd, 0o600)
                    os.write(fd, digest.array_type(size).from_address(flat.data_ptr()))
                finally:
                    os.close(fd)
            except OSError as error:
                if interrupts(error):
                    raise
                return fact
            self._kept += size
            fact["file"] = file
        return fact

    @digest.unseen
    def _inputs(self, op: OpFacts, args: Any, kwargs: Any) -> list[Value]:
        # What is overwritten without being read is no input: the first argument of copy_, and out=.
        found = self._tensors.within([args, {name: value for name, value in kwargs.items() if name not in op.writes}], [])
        values: list[Value] = []
        for position, tensor in enumerate(found[:_TENSORS]):
            if op.overwrites and not position:
                continue
            fact = self._saved(f"in{position}", tensor)
            values.append(fact)
            try:
                storage = tensor.untyped_storage()
                fact["producer"] = storage._repro_audit
                born = storage._repro_audit_birth
                empty = self._torch.empty(0, dtype=tensor.dtype)
                was = empty.set_(born, tensor.storage_offset(), tensor.size(), tensor.stride())
            except Exception as error:  # no storage, written by nobody we know, or not born empty
                if interrupts(error):
                    raise
                continue
            values.append(self._saved(f"birth{position}", was))
        return values

    @digest.unseen
    def _keep_birth(self, tensor: Any) -> None:
        try:
            if 0 < tensor.nbytes <= _BIRTH_LIMIT:
                tensor.untyped_storage()._repro_audit_birth = tensor.untyped_storage().clone()
        except Exception as error:  # no storage of its own
            if interrupts(error):
                raise


def _of_lane(process: Process, lane: Lane, torch: Any, settings: dict[str, Any]) -> ValueCapture | None:
    """For the lane that a window names. `settings`: `windows` (lane, identity, first, last) and `to_the_end`."""
    name = lane_name(lane.role, lane.identity, process.rank)
    window = next((w for w in settings["windows"] if w["lane"] == name and w["identity"] in (None, lane.identity)), None)
    return None if window is None else ValueCapture(process, lane, torch, window, settings["to_the_end"])


OBSERVER = _of_lane
