"""Sketches of what each op made and wrote and of what came in from outside, so that runs on two devices can be compared, see `trace`.

The signs are a fixed function of an element's position, made of integers alone: the same on every device, machine and version. Element j
of row i of PERIOD elements has the sign `s(j) * t(i, j // (PERIOD // SUMS))`, which is enough for the estimate to be unbiased, as any two
positions have independent signs, and lets a large tensor be summed up by products of matrices and vectors. Elements are taken in logical
order, since two devices may lay a tensor out differently. Never draws from a stream of the script's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.callsite import hide_us
from auditor.record.probes.op_facts import QUERY, OpFacts
from auditor.record.probes.torch_ops import learn_op
from auditor.trace import SUMS
from auditor.trace.signs import ELEMENTS, ORDER, PERIOD, ROWS

if TYPE_CHECKING:
    from auditor.record.lane import Lane
    from auditor.record.probes.torch_ops import Handler

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


def watch(lane: Lane, torch: Any) -> Handler:
    """The lane's handler, followed by sketches of what the op made and wrote."""
    plain: Handler = lane.handler
    made = Sketcher(torch)
    missed: dict[str, int] = {}

    def note(number: int, slot: int, tensor: Any, name: str) -> None:
        try:
            if tensor.device.type != "meta":
                lane.writer.sketch(number, slot, *made.of(tensor))
        except Exception as error:  # quantized, nested and wrapper tensors, each in its own way
            if interrupts(error):
                raise
            missed[name] = missed.get(name, 0) + 1

    @digest.unseen
    def met(number: int, tensor: Any) -> None:
        note(number, 0, tensor, "external")

    @digest.unseen
    def note_all(number: int, facts: OpFacts, out: Any, args: Any, kwargs: Any) -> None:
        for slot, tensor in facts.made(torch, out, args, kwargs):
            try:
                record = tensor.untyped_storage()._repro_audit
            except Exception as error:  # no storage
                if interrupts(error):
                    raise
                record = 0
            if record > number:
                note(record, slot, tensor, facts.name)

    def tell() -> None:
        for name, count in sorted(missed.items()):
            lane.line({"k": "unsketched", "at": lane.number(), "op": name, "count": count})

    def sketched(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            number = lane.number()
            out = plain.dispatch(mode, func, types, args, kwargs)
            if lane.number() == number or out is NotImplemented:
                return out
            facts = (getattr(func, "_repro_audit", None) or learn_op(func))[3]
            if facts.flag == QUERY or facts.shares or facts.collective:
                return out
            note_all(number, facts, out, args, kwargs)
            return out
        except BaseException as error:
            hide_us(error)
            raise

    lane.met_external = met
    lane.at_end.append(tell)
    return plain._replace(dispatch=sketched)
