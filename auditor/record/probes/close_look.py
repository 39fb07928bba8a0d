"""The closer look: within a window of records, digest every input of every op before it runs, and keep the values.

What is kept tells an origin from a carrier: an input that no recorded op changed but that differs between the runs was written by
somebody else (`hidden-write`) or never written at all (`uninitialized`: it still holds what it was born with).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.callsite import hide_us
from auditor.record.probes.torch_ops import learn_op
from auditor.trace import lane_name
from auditor.trace.writer import make_folder

if TYPE_CHECKING:
    from auditor.record.lane import Lane
    from auditor.record.probes.op_facts import OpFacts
    from auditor.record.probes.torch_ops import Handler
    from auditor.record.process import Process

#: Bytes kept of one tensor and of one lane. A larger tensor has its digest only.
VALUE_LIMIT = 8 << 20
LANE_LIMIT = 512 << 20
_BIRTH_LIMIT = 4 << 20


def window_of(process: Process, lane: Lane) -> dict[str, Any] | None:
    """The window that the settings give for this lane; None if they give none."""
    name = lane_name(lane.role, lane.identity, process.rank)
    windows = process.settings.get("watch") or ()
    return next((w for w in windows if w["lane"] == name and w["identity"] in (None, lane.identity)), None)


def watch(process: Process, lane: Lane, torch: Any, window: dict[str, Any]) -> Handler:
    """The lane's handler, looking closely within the window."""
    plain: Handler = lane.handler
    first, last = window["first"], window["last"]
    folder = os.path.join(process.settings["run"], "values")
    kept = 0

    def tensors_in(value: Any, found: list[Any]) -> None:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            for part in value:
                tensors_in(part, found)
        elif isinstance(value, dict):
            tensors_in(list(value.values()), found)

    @digest.unseen
    def save(slot: str, tensor: Any) -> dict[str, object] | None:
        """Digest a tensor in logical order and keep its bytes."""
        nonlocal kept
        if tensor.layout is not torch.strided or tensor.device.type == "meta":
            return {"slot": slot, "digest": digest.of_tensor(tensor)}
        flat = tensor.detach()
        if flat.is_conj() or flat.is_neg():
            flat = flat.resolve_conj().resolve_neg()
        flat = flat.contiguous().cpu()
        fact: dict[str, object] = {
            "slot": slot, "dtype": str(flat.dtype)[6:], "shape": list(flat.shape), "digest": digest.of_tensor(flat),
        }  # fmt: skip
        size = flat.nbytes
        if size and flat.data_ptr() and size <= VALUE_LIMIT and kept + size <= LANE_LIMIT:
            file = f"{os.path.basename(process.directory)}-{os.path.basename(lane.writer.path)}-{kept:x}.bin"
            try:
                make_folder(folder)
                fd = os.open(os.path.join(folder, file), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.fchmod(fd, 0o600)
                    os.write(fd, digest.array_type(size).from_address(flat.data_ptr()))
                finally:
                    os.close(fd)
            except OSError as error:
                if interrupts(error):
                    raise
                return fact
            kept += size
            fact["file"] = file
        return fact

    @digest.unseen
    def inputs_of(op: OpFacts, args: Any, kwargs: Any) -> list[dict[str, object]]:
        found: list[Any] = []
        tensors_in(args, found)
        # What is overwritten without being read is no input: the first argument of copy_, and out=.
        tensors_in({k: v for k, v in (kwargs or {}).items() if k not in op.writes}, found)
        facts: list[dict[str, object]] = []
        for position, tensor in enumerate(found[:64]):
            if op.overwrites and not position:
                continue
            fact = save(f"in{position}", tensor)
            if fact is None:
                continue
            try:
                storage = tensor.untyped_storage()
                fact["producer"] = storage._repro_audit
                born = storage._repro_audit_birth
                was = torch.empty(0, dtype=tensor.dtype).set_(born, tensor.storage_offset(), tensor.size(), tensor.stride())
            except Exception as error:  # no storage, written by nobody we know, or not born empty
                if interrupts(error):
                    raise
                facts.append(fact)
                continue
            facts.append(fact)
            birth = save(f"birth{position}", was)
            if birth is not None:
                facts.append(birth)
        return facts

    @digest.unseen
    def keep_birth(tensor: Any) -> None:
        try:
            if 0 < tensor.nbytes <= _BIRTH_LIMIT:
                tensor.untyped_storage()._repro_audit_birth = tensor.untyped_storage().clone()
        except Exception as error:  # no storage of its own
            if interrupts(error):
                raise

    def look(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            number = lane.position()
            if number > last:
                lane.watched_enough = not process.settings.get("to_the_end")
                return plain.dispatch(mode, func, types, args, kwargs)
            facts = (getattr(func, "_repro_audit", None) or learn_op(func))[3]
            close = number >= first and not types and not facts.collective
            values = inputs_of(facts, args, kwargs) if close else []
            out = plain.dispatch(mode, func, types, args, kwargs)
            if out is NotImplemented or lane.position() == number:
                return out
            if facts.empty and isinstance(out, torch.Tensor):
                keep_birth(out)
            if close:
                found: list[Any] = []
                tensors_in(out, found)
                tensors_in([args[w] if isinstance(w, int) and w < len(args) else None for w in facts.writes], found)
                different = [tensor for k, tensor in enumerate(found[:64]) if not any(tensor is other for other in found[:k])]
                outputs = [save(f"out{position}", tensor) for position, tensor in enumerate(different)]
                lane.line({"k": "value", "at": lane.number(), "values": [v for v in [*values, *outputs] if v is not None]})
            return out
        except BaseException as error:
            hide_us(error)
            raise

    return plain._replace(dispatch=look)
