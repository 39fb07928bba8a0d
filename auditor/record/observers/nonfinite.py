"""Looks for results that are not all finite: in a rerun, because it asks every result of every op."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record import digest
from auditor.record.core.protocol import Observer
from auditor.record.core.tensors import Tensors

if TYPE_CHECKING:
    from auditor.record.core.op_facts import OpFacts
    from auditor.record.lane import Lane
    from auditor.record.process import Process

#: From the first nan on nearly every result has one.
_MOST = 20_000


class Nonfinite(Observer):
    """Writes an event for each result that has a nan or an infinity, and whether the op was given one."""

    def __init__(self, lane: Lane, torch: Any) -> None:
        self._lane, self._torch, self._tensors = lane, torch, Tensors(torch)
        self._events = 0

    def before(self, op: OpFacts, args: Any, kwargs: Any) -> bool | None:
        """Whether all that the op is given is finite; None of an op whose result is not asked."""
        if op.collective or op.shares or op.empty or self._events > _MOST:
            return None
        read = args[1:] if op.overwrites else args
        return self._are_finite(self._floating([read, {name: value for name, value in kwargs.items() if name not in op.writes}]))

    def after(self, op: OpFacts, args: Any, kwargs: Any, out: Any, kept: bool | None, number: int) -> None:
        """Ask what the op made and wrote."""
        if kept is None:
            return
        written = [value for value in op.written(args, kwargs) if value is not out]
        found = self._floating([out, written])
        if isinstance(out, float):
            found.append(self._torch.tensor(out))
        if not self._are_finite(found):
            self._events += 1
            with digest.Unseen():
                nans = sum(int(tensor.isnan().sum()) for tensor in found)
                infinities = sum(int(tensor.isinf().sum()) for tensor in found)
            self._lane.line({"k": "nonfinite", "at": self._lane.number(), "nans": nans, "infinities": infinities, "given": not kept})

    @digest.unseen
    def _floating(self, values: Any) -> list[Any]:
        strided = self._torch.strided
        return [
            tensor.detach() for tensor in self._tensors.within(values, [])
            if tensor.is_floating_point() and tensor.layout is strided and tensor.device.type != "meta"
        ]  # fmt: skip

    @digest.unseen
    def _are_finite(self, tensors: list[Any]) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _of_lane(_process: Process, lane: Lane, torch: Any, _settings: object) -> Nonfinite:
    return Nonfinite(lane, torch)


OBSERVER = _of_lane
