"""Looks for results that are not all finite: in a rerun, because it asks every result of every op."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record import digest
from auditor.record.callsite import hide_us
from auditor.record.probes.torch_ops import learn_op

if TYPE_CHECKING:
    from auditor.record.lane import Lane
    from auditor.record.probes.torch_ops import Handler

#: From the first nan on nearly every result has one.
_MOST_TOLD = 20_000


def watch(lane: Lane, torch: Any) -> Handler:
    """The lane's handler, telling of each result that has a nan or an infinity, and whether the op was given one."""
    plain: Handler = lane.handler
    told = 0

    @digest.unseen
    def floating(value: Any, found: list[Any]) -> list[Any]:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point() and value.layout is torch.strided and value.device.type != "meta":
                found.append(value.detach())
        elif isinstance(value, (list, tuple)):
            for part in value:
                floating(part, found)
        elif isinstance(value, dict):
            floating(list(value.values()), found)
        return found

    @digest.unseen
    def are_finite(tensors: list[Any]) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def look(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        nonlocal told
        try:
            facts = (getattr(func, "_repro_audit", None) or learn_op(func))[3]
            if types or facts.collective or facts.shares or facts.empty or told > _MOST_TOLD:
                return plain.dispatch(mode, func, types, args, kwargs)
            number = lane.number()
            read = args[1:] if facts.overwrites else args
            given = floating([read, {name: value for name, value in (kwargs or {}).items() if name not in facts.writes}], [])
            was_finite = are_finite(given)
            out = plain.dispatch(mode, func, types, args, kwargs)
            if out is NotImplemented or lane.number() == number:
                return out
            written = [args[w] for w in facts.writes if isinstance(w, int) and w < len(args) and args[w] is not out]
            found = floating([out, written], [])
            if isinstance(out, float):
                found.append(torch.tensor(out))
            if not are_finite(found):
                told += 1
                with digest.Unseen():
                    nans = sum(int(tensor.isnan().sum()) for tensor in found)
                    infinities = sum(int(tensor.isinf().sum()) for tensor in found)
                lane.line({"k": "nonfinite", "at": lane.number(), "nans": nans, "infinities": infinities, "given": not was_finite})
            return out
        except BaseException as error:
            hide_us(error)
            raise

    return plain._replace(dispatch=look)
