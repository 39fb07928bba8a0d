"""Sketches of what each op made and wrote and of external tensors, so that runs on two devices can be compared, see `trace`.

The signs are a fixed function of an element's position, made of integers alone: the same on every device, machine and version. Element j
of row i of PERIOD elements has the sign `s(j) * t(i, j // (PERIOD // SUMS))`, which is enough for the estimate to be unbiased, as any two
positions have independent signs, and lets a large tensor be summed up by products of matrices and vectors. Elements are taken in logical
order, since two devices may lay a tensor out differently. Never draws from a stream of the script's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.core.op_facts import QUERY
from auditor.record.core.protocol import Observer
from auditor.trace import SUMS
from auditor.trace.signs import ELEMENTS, ORDER, PERIOD, ROWS

if TYPE_CHECKING:
    from auditor.record.core.op_facts import OpFacts
    from auditor.record.lane import Lane
    from auditor.record.process import Process

#: Rows of PERIOD elements that are summed up at once: 32 MB in float64.
_ROWS = 1024


class Sketcher:
    """Makes sketches; keeps the signs of each device."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._signs: dict[Any, Any] = {}

    def of(self, tensor: Any) -> tuple[float, ...]:
        """`elements, nonfinite, norm, largest, *sums` of a tensor; raises what torch does for one that cannot be read."""
        torch = self._torch
        flat = tensor.detach()
        if flat.layout is not torch.strided:
            flat = flat.to_dense()
        if flat.is_complex():
            flat = torch.view_as_real(flat.resolve_conj())
        flat = flat.reshape(-1)
        n = flat.numel()
        if not n:
            return (0, 0, 0.0, 0.0, *([0.0] * SUMS))
        found = self._summed(flat)
        nonfinite = 0
        if not found[0] < float("inf"):  # a nan is not either
            wide = flat.double() if flat.is_floating_point() else flat
            finite = wide.isfinite()
            nonfinite = n - int(finite.sum())
            found = self._summed(torch.where(finite, wide, 0.0))
        return (n, nonfinite, *found)

    def _summed(self, flat: Any) -> list[float]:
        torch = self._torch
        n = flat.numel()
        signs = self._along("s", PERIOD, flat.device)[:PERIOD]
        if n <= PERIOD:
            wide = flat.double()
            signed = wide * signs[:n]
            largest, squares = wide.abs().max(), wide.square().sum()
        else:
            whole = n // PERIOD
            rows = flat[: whole * PERIOD].view(whole, PERIOD)
            turns = self._along("t", (whole + 1) * SUMS, flat.device).view(-1, SUMS)
            signed = torch.zeros(SUMS, 1, PERIOD // SUMS, dtype=torch.float64, device=flat.device)
            squares = torch.zeros((), dtype=torch.float64, device=flat.device)
            largest = squares
            for first in range(0, whole, _ROWS):
                wide = rows[first : first + _ROWS].double()
                signed += turns[first : first + len(wide)].T.unsqueeze(1) @ wide.view(-1, SUMS, PERIOD // SUMS).transpose(0, 1)
                squares = squares + wide.square().sum()
                largest = torch.maximum(largest, wide.abs().max())
            signed = signed.view(PERIOD)
            rest = flat[whole * PERIOD :].double()
            if rest.numel():
                signed[: rest.numel()] += turns[whole].repeat_interleave(PERIOD // SUMS)[: rest.numel()] * rest
                squares = squares + rest.square().sum()
                largest = torch.maximum(largest, rest.abs().max())
            signed *= signs
        if signed.numel() < PERIOD:
            signed = torch.cat([signed, signed.new_zeros(PERIOD - signed.numel())])
        sums = signed[self._dealt(flat.device)].view(-1, SUMS).sum(0)
        norm, most, *rest = torch.cat([squares.sqrt().reshape(1), largest.reshape(1), sums]).tolist()  # one wait for the device
        return [norm, most, *rest]

    def _dealt(self, device: Any) -> Any:
        """An order of the positions in which each sum gets some of every column of a matrix, whatever its width."""
        known = self._signs.get(("order", device))
        if known is None:
            known = self._signs["order", device] = _mixed(self._torch, PERIOD, ORDER).argsort(stable=True).to(device)
        return known

    def _along(self, which: str, many: int, device: Any) -> Any:
        """At least so many signs, as float64."""
        known = self._signs.get((which, device))
        if known is None or known.numel() < many:
            mixed = _mixed(self._torch, -(-max(many, 2 * PERIOD) // SUMS) * SUMS, ELEMENTS if which == "s" else ROWS)
            made = self._torch.where(mixed < 0, -1.0, 1.0).double()
            known = self._signs[which, device] = made.to(device)
        return known


def _mixed(torch: Any, many: int, seed: int) -> Any:
    """A fixed pseudo-random int64 for each of the positions 0, 1, ...: splitmix64, in integers that wrap around."""

    def shifted(value: Any, bits: int) -> Any:
        return (value >> bits) & ((1 << (64 - bits)) - 1)

    def wrapped(value: int) -> int:
        return value - (1 << 64) if value >= 1 << 63 else value

    x = torch.arange(many, dtype=torch.int64) * wrapped(0x9E3779B97F4A7C15) + seed
    x = (x ^ shifted(x, 30)) * wrapped(0xBF58476D1CE4E5B9)
    x = (x ^ shifted(x, 27)) * wrapped(0x94D049BB133111EB)
    return x ^ shifted(x, 31)


class Sketches(Observer):
    """Writes a sketch of each tensor that an op of a lane made or wrote, and of each external one."""

    def __init__(self, lane: Lane, torch: Any) -> None:
        self._lane, self._torch = lane, torch
        self._sketcher = Sketcher(torch)
        self._missed: dict[str, int] = {}

    @digest.unseen
    def external(self, number: int, tensor: Any) -> None:
        """Sketch an external tensor."""
        self._write(number, 0, tensor, "external")

    def after(self, op: OpFacts, args: Any, kwargs: Any, out: Any, kept: Any, number: int) -> None:
        """Sketch what the op made and wrote."""
        if op.flag != QUERY and not op.shares and not op.collective:
            self._write_all(op, args, kwargs, out, number)

    def end(self) -> None:
        """Count the tensors that cannot be sketched."""
        for name, count in sorted(self._missed.items()):
            self._lane.line({"k": "unsketched", "at": self._lane.number(), "op": name, "count": count})

    @digest.unseen
    def _write_all(self, op: OpFacts, args: Any, kwargs: Any, out: Any, number: int) -> None:
        for slot, tensor in op.made(self._torch, out, args, kwargs):
            try:
                record = tensor.untyped_storage()._repro_audit
            except Exception as error:  # no storage
                if interrupts(error):
                    raise
                record = 0
            if record > number:
                self._write(record, slot, tensor, op.name)

    def _write(self, number: int, slot: int, tensor: Any, name: str) -> None:
        try:
            if tensor.device.type != "meta":
                self._lane.writer.sketch(number, slot, *self._sketcher.of(tensor))
        except Exception as error:  # quantized, nested and wrapper tensors, each in its own way
            if interrupts(error):
                raise
            self._missed[name] = self._missed.get(name, 0) + 1


def _of_lane(_process: Process, lane: Lane, torch: Any, _settings: object) -> Sketches:
    return Sketches(lane, torch)


OBSERVER = _of_lane
