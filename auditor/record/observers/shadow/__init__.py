"""Computes each op a second time, in float64 or on another device, and measures by how much its result is off.

The reference is made of the same inputs, upcast, so what is measured is the error that this op introduced and nothing that it inherited.
Whether that exceeds its error bound is asked of the tolerance rules (`auditor.tolerance`, docs/tolerances.md). Everything works on detached
copies, below autograd, out of every mode's sight, and draws from no stream of the script's; what cannot be computed again is counted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.core.protocol import Observer
from auditor.record.observers.shadow.case import CannotError, Case, Op
from auditor.record.observers.shadow.excess import excess_of
from auditor.tolerance import FORMATS, Tolerance, from_json

if TYPE_CHECKING:
    from auditor.record.core.op_facts import OpFacts
    from auditor.record.lane import Lane
    from auditor.record.process import Process

_FLOAT64 = "float64"
_HERE = os.path.dirname(__file__)


class _Call(NamedTuple):
    """What is kept of a call until the op has run."""

    op: Op
    case: Case | None
    args: Any
    kwargs: Any


class Shadow(Observer):
    """Recomputes the ops of one lane; `reference` is `float64` or a device."""

    def __init__(self, lane: Lane, torch: Any, reference: str, tolerances: list[Tolerance]) -> None:
        self._lane, self._torch = lane, torch
        self._reference = reference
        self._device = None if reference == _FLOAT64 else torch.device(reference)
        self._tolerances = tolerances
        self._ops: dict[str, Op] = {}
        self._unmeasured: dict[tuple[str, str], int] = {}
        _silence_warnings()

    def before(self, op: OpFacts, args: Any, kwargs: Any) -> _Call | None:
        """Copy what the op is about to write; None of a call that is not computed again."""
        known = self._ops.get(op.name)
        if known is None:
            known = self._ops[op.name] = Op(op, self._tolerances)
        if known.is_left_out(args, kwargs):
            return None
        if not known.writes:
            return _Call(known, None, args, kwargs)
        case = self._case(known, args, kwargs)
        if case is None:
            return None
        if self._device is not None:
            args, kwargs = _copied(self._torch, self._device, args, kwargs)
        return _Call(known, case, args, kwargs)

    def after(self, op: OpFacts, args: Any, kwargs: Any, out: Any, kept: _Call | None, number: int) -> None:
        """Compare the result with the reference."""
        if kept is None:
            return
        made = op.made(self._torch, out, args, kwargs)
        if any(tensor.is_floating_point() or tensor.is_complex() for _, tensor in made):
            case = kept.case or self._case(kept.op, args, kwargs)
            if case is not None:
                self._compare(kept.op, case, made, kept.args, kept.kwargs)

    def end(self) -> None:
        """Count what could not be computed again, by op and reason."""
        for (name, why), times in self._unmeasured.items():
            self._lane.line({"k": "unshadowed", "op": name, "why": why, "count": times})

    def _count(self, op: Op, why: str) -> None:
        self._unmeasured[op.name, why] = self._unmeasured.get((op.name, why), 0) + 1

    @digest.unseen
    def _case(self, op: Op, args: Any, kwargs: Any) -> Case | None:
        try:
            case = Case(self._torch, op, args, kwargs)
        except CannotError as error:
            if interrupts(error):
                raise
            self._count(op, str(error))
            return None
        except Exception as error:  # wrappers, functional and other tensors that cannot be copied like others
            if interrupts(error):
                raise
            self._count(op, f"its inputs cannot be copied: {type(error).__name__}")
            return None
        return case if case.dtypes else None  # without floating inputs there is nothing to compute better

    @digest.unseen
    def _compare(self, op: Op, case: Case, made: list[tuple[int, Any]], args: Any, kwargs: Any) -> None:
        torch = self._torch
        wanted = [(slot, tensor) for slot, tensor in made if _is_measured(torch, tensor)]
        if not wanted:
            if any(tensor.dtype in (torch.float64, torch.complex128) for _, tensor in made):
                self._count(op, "it is float64 already")
            return
        try:
            number = next(tensor.untyped_storage()._repro_audit for _, tensor in made)
        except Exception as error:  # an output without a storage of its own has no record either
            if interrupts(error):
                raise
            self._count(op, "its result has no storage")
            return
        try:
            found = case.computed() if self._device is None else _on(torch, self._device, op, args, kwargs)
        except Exception as error:  # an op may be made for some dtypes only
            if interrupts(error):
                raise
            self._count(op, f"in {self._reference}: {_first_line(error)}")
            return
        references = dict(found)
        if any(slot not in references or references[slot].shape != tensor.shape for slot, tensor in wanted):
            self._count(op, "it returns other shapes there")
            return
        try:
            for slot, tensor in wanted:
                measure = excess_of(torch, op, case, slot, tensor, references, 1.0 if self._device is None else 2.0)
                if measure is not None:
                    self._lane.writer.shadow(number, slot, *measure)
        except Exception as error:  # out of memory, a kernel that is missing on some device
            if interrupts(error):
                raise
            self._count(op, f"it could not be measured: {_first_line(error)}")


def _is_measured(torch: Any, tensor: Any) -> bool:
    return bool(
        str(tensor.dtype)[6:] in FORMATS
        and tensor.dtype not in (torch.float64, torch.complex128)
        and tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and tensor.numel() > 0
    )


def _on(torch: Any, device: Any, op: Op, args: Any, kwargs: Any) -> list[Any]:
    """The op in its own dtype on another device."""
    moved = _moved(torch, device, args, kwargs)
    out = op.call(*moved[0], **moved[1])
    return [(slot, tensor) for slot, tensor in op.facts.made(torch, out, *moved)]


@digest.unseen
def _copied(torch: Any, device: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Copies on another device of what an op is about to write."""
    try:
        return _moved(torch, device, args, kwargs)
    except Exception as error:  # the same is said where it is compared
        if interrupts(error):
            raise
        return args, kwargs


def _moved(torch: Any, device: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    copies: dict[int, Any] = {}

    def move(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if id(value) not in copies:
                copies[id(value)] = value.detach().to(device, copy=True)
            return copies[id(value)]
        if isinstance(value, (list, tuple)):
            return [move(part) for part in value]
        return device if isinstance(value, torch.device) else value

    return tuple(move(value) for value in args), {name: move(value) for name, value in (kwargs or {}).items()}


def _first_line(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:200]


def _silence_warnings() -> None:
    """Let no warning out that an op gives a second time, to us; the script's own go their way."""
    warnings: Any = sys.modules.get("warnings")
    shown = getattr(warnings, "_showwarnmsg", None)
    if shown is None or getattr(shown, "_repro_audit", False):
        return

    def others(message: Any) -> Any:
        return None if message.filename.startswith(_HERE) else shown(message)

    others._repro_audit = True  # type: ignore[attr-defined]  # marks it as installed
    warnings._showwarnmsg = others


def _of_lane(_process: Process, lane: Lane, torch: Any, settings: dict[str, Any]) -> Shadow:
    """`settings`: `as` (`float64` or a device) and `tolerances` (their JSON)."""
    return Shadow(lane, torch, settings["as"], from_json(settings["tolerances"]))


OBSERVER = _of_lane
