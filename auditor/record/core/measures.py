"""What a few kinds of op did to the numbers, measured when they happen: the first times that a line does it, and ever more rarely after.

A cast that rounds, integers that wrap around, a reduction in half precision, and a write whose result depends on the order of its
elements cannot be told from dtypes and shapes alone: the same cast rounds nothing where the numbers happen to be small integers. So
it is done a second time in a wider dtype, or in another order, and the two are compared. Called within the handler, where nothing that is
done to tensors is dispatched to a mode, and on detached tensors, which give autograd nothing to count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest

if TYPE_CHECKING:
    from auditor.record.lane import Lane

#: What is looked at: of a cast the first elements, of anything else nothing that is larger.
MOST_ELEMENTS = 1 << 20
#: A line is measured this often, and then at each power of two.
ALWAYS = 8

#: name of an op -> how it is measured whatever it returns
BY_OP = {
    "aten._to_copy.default": "cast", "aten.copy_.default": "cast", "aten.index_put_.default": "order", "aten.index_put.default": "order",
    "aten._index_put_impl_.default": "order", "aten.scatter_.src": "order", "aten.scatter.src": "order",
    "aten.index_copy_.default": "order", "aten.index_copy.default": "order",
}  # fmt: skip

_ARITHMETIC = (
    "aten.add.",
    "aten.add_.",
    "aten.sub.",
    "aten.sub_.",
    "aten.mul.",
    "aten.neg.",
    "aten.pow.",
    "aten.rsub.",
    "aten.sum.",
    "aten.cumsum.",
    "aten.prod.",
)
_REDUCTIONS = (
    "aten.sum.", "aten.mean.", "aten.cumsum.", "aten.prod.", "aten.cumprod.", "aten.logsumexp.", "aten.linalg_vector_norm.",
)  # fmt: skip
_NARROW = ("uint8", "int8", "int16", "int32", "uint16", "uint32")
_HALF = ("float16", "bfloat16")


def by_result(name: str, dtype: str) -> str | None:
    """How an op is measured for what it returns: arithmetic of narrow integers, reductions to half precision."""
    if dtype in _NARROW and name.startswith(_ARITHMETIC):
        return "overflow"
    if dtype in _HALF and name.startswith(_REDUCTIONS):
        return "reduction"
    return None


class Measures:
    """The measurements of one lane."""

    def __init__(self, lane: Lane, torch: Any) -> None:
        self._lane = lane
        self._torch = torch
        self._done: dict[tuple[str, int], int] = {}
        kinds = {"cast": self._cast, "order": self._order, "overflow": self._overflow, "reduction": self._reduction}
        self._kinds: dict[str, Callable[..., dict[str, object] | None]] = kinds

    def due(self, name: str, site: int) -> bool:
        """Whether this line's op is to be measured this time."""
        if not site:
            return False
        if len(self._done) > 50_000:
            return False
        done = self._done[name, site] = self._done.get((name, site), 0) + 1
        return done <= ALWAYS or not done & (done - 1)

    def before(self, kind: str, args: Any) -> Any:
        """What must be kept of the arguments before an op writes into them."""
        if kind != "order" or args[0].numel() > MOST_ELEMENTS:
            return None
        return args[0].detach().clone()

    @digest.unseen
    def after(self, kind: str, call: Any, args: Any, kwargs: Any, out: Any, before: Any) -> None:
        """Measure, and note what was found about the record that was written last."""
        try:
            if args[0] is out and kind == "overflow":
                before = self._undone(call, args, out)
            found = self._kinds[kind](call, args, kwargs or {}, out, before)
        except Exception as error:  # sparse, quantized and other tensors with which one cannot compute
            if interrupts(error):
                raise
            return
        if found is not None:
            self._lane.line({"k": "measured", "at": self._lane.number(), "what": kind, **found})

    def _cast(self, _call: Any, args: Any, _kwargs: Any, out: Any, _before: Any) -> dict[str, object] | None:
        source = args[1] if len(args) > 1 and hasattr(args[1], "dtype") else args[0]
        if source.dtype == out.dtype or not _narrows(self._torch, source.dtype, out.dtype):
            return None
        return self._difference(_flat(source if source.shape == out.shape else source.expand(out.shape)), _flat(out))

    def _difference(self, wide: Any, narrow: Any) -> dict[str, object] | None:
        """How far `narrow` is off `wide`, of which there must be as many; None if there is nothing to tell."""
        if wide.shape != narrow.shape or not wide.numel():
            return None
        torch = self._torch
        whole = not (wide.dtype.is_floating_point or narrow.dtype.is_floating_point)
        kind = torch.int64 if whole else torch.float64
        source, result = wide.to(kind), narrow.to(kind)
        if whole:
            return {"values": wide.numel(), "changed": int((source != result).sum())}
        finite = source.isfinite()
        overflowed = finite & ~result.isfinite()
        vanished = finite & (source != 0) & (result == 0)
        off = (result - source).abs()
        rounded = finite & (off > 0) & ~overflowed & ~vanished
        facts: dict[str, object] = {"values": wide.numel(), "changed": int((rounded | overflowed | vanished).sum())}
        if rounded.any():
            facts["largest"] = float((off[rounded] / source[rounded].abs()).max())
            facts["absolute"] = float(off[rounded].max())
        for name, mask in (("overflowed", overflowed), ("vanished", vanished)):
            if mask.any():
                facts[name] = int(mask.sum())
        return facts

    def _undone(self, call: Any, args: Any, out: Any) -> Any:
        """What an addition or subtraction in place has overwritten: whole numbers that wrap can be taken back exactly."""
        adds, subtracts = self._torch.ops.aten.add_, self._torch.ops.aten.sub_
        undo = {adds.Tensor._op: subtracts.Tensor, subtracts.Tensor._op: adds.Tensor}.get(call)
        return None if undo is None or out.numel() > MOST_ELEMENTS else undo(out.detach().clone(), args[1])

    def _overflow(self, call: Any, args: Any, kwargs: Any, out: Any, before: Any) -> dict[str, object] | None:
        if out.numel() > MOST_ELEMENTS or "dtype" in kwargs or "out" in kwargs or (args[0] is out and before is None):
            return None
        torch = self._torch
        given = args if before is None else (before, *args[1:])
        wide = [a.detach().to(torch.int64) if isinstance(a, torch.Tensor) else a for a in given]
        right = call(*wide, **kwargs)
        wrong = int((right != out).sum())
        return {"values": out.numel(), "changed": wrong} if wrong else None

    def _reduction(self, call: Any, args: Any, kwargs: Any, out: Any, _before: Any) -> dict[str, object] | None:
        runs_on = args[0].shape == out.shape  # cumsum and its like
        if args[0].numel() > MOST_ELEMENTS or (args[0].numel() <= out.numel() and not runs_on) or "out" in kwargs:
            return None
        torch = self._torch
        kwargs = {**kwargs, "dtype": torch.float64} if kwargs.get("dtype") is not None else kwargs
        right = call(args[0].detach().to(torch.float64), *args[1:], **kwargs)
        found = self._difference(right.reshape(-1), out.detach().reshape(-1))
        return found and {**found, "of": out.shape[args[1]] if runs_on and out.dim() else args[0].numel() // max(out.numel(), 1)}

    def _order(self, call: Any, args: Any, kwargs: Any, out: Any, before: Any) -> dict[str, object] | None:
        """Write the elements in the opposite order: where one place is written twice with different values, another one stays."""
        if before is None or kwargs:
            return None
        torch = self._torch
        if isinstance(args[1], (list, tuple)):
            indices, values = args[1], args[2].detach()
            if (len(args) > 3 and args[3]) or any(i is None or i.dtype in (torch.bool, torch.uint8) for i in indices):
                return None
            indices = torch.broadcast_tensors(*indices)
            shape, rest = indices[0].shape, before.shape[len(indices) :]
            flat = [i.reshape(-1).flip(0) for i in indices]
            spread = values.expand(*shape, *rest).reshape(-1, *rest).flip(0)
            other = before.index_put(flat, spread)
            written = flat[0].numel()
        else:
            _, dim, index, source = args[:4]
            if not index.dim() or not index.numel():
                return None
            if index.dim() == source.dim() == before.dim():
                source = source.detach()[tuple(slice(0, size) for size in index.shape)]
                other = call(before, dim, index.flip(dim), source.flip(dim))
            else:
                other = call(before, dim, index.flip(0), source.detach().flip(dim))
            written = index.numel()
        different = int(((other != out) & ~((other != other) & (out != out))).sum())
        return {"values": written, "changed": different} if different else None


def _narrows(torch: Any, source: Any, target: Any) -> bool:
    """Whether a cast can change numbers without being asked to: not one from floating point to integers, which is meant to."""
    if source.is_complex or target.is_complex or torch.bool in (source, target):
        return False
    if target.is_floating_point:
        if not source.is_floating_point:
            return bool(torch.iinfo(source).max > 1 / torch.finfo(target).eps)
        a, b = torch.finfo(source), torch.finfo(target)
        return bool(b.eps > a.eps or b.max < a.max)
    if source.is_floating_point:
        return False
    a, b = torch.iinfo(source), torch.iinfo(target)
    return bool(b.max < a.max or b.min > a.min)


def _flat(tensor: Any) -> Any:
    """The first elements in logical order."""
    tensor = tensor.detach()
    if tensor.numel() <= MOST_ELEMENTS:
        return tensor.reshape(-1)
    return tensor.view(-1)[:MOST_ELEMENTS] if tensor.is_contiguous() else tensor.flatten()[:0]
