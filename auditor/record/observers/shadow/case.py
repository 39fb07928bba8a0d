"""One call of an op with its inputs upcast to float64, from which it can be computed as often as wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from auditor.interruptions import interrupts
from auditor.record.core.op_facts import NUMBER, QUERY, OpFacts
from auditor.record.observers.shadow import recurrent
from auditor.tolerance import Tolerance, matching

#: Relative change of the inputs by which sensitivity is measured: far above the rounding of float64, far below where functions bend.
STEP = 2.0**-20
#: Samples of which the largest is taken: that all of 16 normal numbers are below 0.3 of their deviation has a chance of 1e-10.
_SAMPLES = 16
#: Arguments of fused ops that their kernels read as float32, whatever the parameters are.
_KEPT = ("state_steps", "found_inf", "inv_scale", "grad_scale")
_DROPOUT = "dropout_p"

#: References for ops that have no kernel for float64.
_REFERENCES: dict[str, Callable[..., Any]] = {
    "aten.mkldnn_rnn_layer.default": recurrent.layer,
    "aten.mkldnn_rnn_layer_backward.default": recurrent.layer_backward,
}


class CannotError(Exception):
    """An op that cannot be computed again, and why."""


class Op:
    """What is known of an op before it runs."""

    __slots__ = ("call", "dropout", "facts", "keeps", "name", "narrow", "reference", "skipped", "tolerance", "writes")

    def __init__(self, facts: OpFacts, tolerances: list[Tolerance]) -> None:
        self.name = facts.name
        self.facts = facts
        names = facts.argument_names or ()
        # where an op that may draw says whether it does: attention, most of whose calls are without dropout
        self.dropout = names.index(_DROPOUT) if facts.random and _DROPOUT in names else None
        draws = facts.random and self.dropout is None
        # Random ops: a second call would draw again. Collectives: it would send again. Views and queries compute nothing.
        self.skipped = (
            facts.argument_names is None or draws or facts.collective or facts.shares or facts.empty or facts.flag in (QUERY, NUMBER)
        )
        self.keeps = {name for name in names if name in _KEPT} | {at for at, name in enumerate(names) if name in _KEPT}
        # softmax in half precision with a float32 result, which no kernel has for float64
        self.narrow = {"half_to_float"} | {at for at, name in enumerate(names) if name == "half_to_float"}
        self.writes = set(facts.writes)
        self.tolerance = matching(tolerances, facts.name)
        self.reference = _REFERENCES.get(facts.name)
        self.call = facts.call

    def is_left_out(self, args: Any, kwargs: Any) -> bool:
        """Whether this call has nothing to compute again, or would draw from a stream again."""
        if self.skipped or self.dropout is None:
            return self.skipped
        return bool(args[self.dropout] if len(args) > self.dropout else (kwargs or {}).get(_DROPOUT))


class Case:
    """One call of an op: its arguments in float64, from which it can be computed as often as wanted."""

    def __init__(self, torch: Any, op: Op, args: Any, kwargs: Any) -> None:
        """Copy what the op is about to write; upcast everything. Raises CannotError."""
        self.torch = torch
        self.op = op
        self.floats: list[Any] = []  # the floating inputs, upcast, in order
        self.groups: list[int] = []  # of each, the argument it belongs to
        self._copies: dict[int, Any] = {}
        self._given: list[Any] = []  # held: ids are those of living tensors
        self.dtypes: set[Any] = set()
        self.args = tuple(self._upcast(value, at, at in op.writes) for at, value in enumerate(args))
        self.kwargs = {name: self._upcast(value, name, name in op.writes) for name, value in (kwargs or {}).items()}

    def _upcast(self, value: Any, at: Any, written: bool) -> Any:
        torch = self.torch
        if isinstance(value, torch.Tensor):
            return self._tensor(value, at, written)
        if isinstance(value, (list, tuple)):
            return [self._upcast(part, at, written) for part in value]
        if isinstance(value, torch.dtype):
            return torch.complex128 if value.is_complex else torch.float64 if value.is_floating_point else value
        if value is True and at in self.op.narrow:
            return False
        return value

    def _tensor(self, tensor: Any, at: Any, written: bool) -> Any:
        torch = self.torch
        found = self._copies.get(id(tensor))
        if found is not None:
            return found
        if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
            raise CannotError("it is given a tensor that is not dense")
        if tensor.device.type == "meta":
            raise CannotError("it is given a tensor without data")
        wide = flat = tensor.detach()
        if at in self.op.keeps:
            wide = flat.clone()
        elif flat.is_floating_point() or flat.is_complex():
            wide = flat.to(torch.complex128 if flat.is_complex() else torch.float64)
            if not (written and at == 0 and self.op.facts.overwrites):
                self.dtypes.add(flat.dtype)
                self.floats.append(wide)
                self.groups.append(at)
        if wide is flat and self.op.writes:  # it may be what is about to be written, or share its memory
            wide = flat.clone()
        self._copies[id(tensor)] = wide
        self._given.append(tensor)
        return wide

    def computed(self, changed: Callable[[Any, Any], Any] | None = None, scalar: Callable[[float], float] | None = None) -> list[Any]:
        """Compute the op in float64: what it made and wrote, each with its place; `changed` and `scalar` are applied to the inputs."""
        torch = self.torch
        done: dict[int, Any] = {}

        def fresh(value: Any, at: Any) -> Any:
            if isinstance(value, torch.Tensor):
                found = done.get(id(value))
                if found is None:
                    found = value
                    wide = value.dtype in (torch.float64, torch.complex128) and at not in self.op.keeps
                    if changed is not None and wide:
                        found = changed(value, at)
                    if found is value and at in self.op.writes:
                        found = value.clone()
                    done[id(value)] = found
                return found
            if isinstance(value, list):
                return [fresh(part, at) for part in value]
            if scalar is not None and (isinstance(value, float) or at in ("alpha", "beta")):
                return scalar(value)
            return value

        args = tuple(fresh(value, at) for at, value in enumerate(self.args))
        kwargs = {name: fresh(value, name) for name, value in self.kwargs.items()}
        call = self.op.call if self.op.reference is None else self.op.reference
        out = call(torch, *args, **kwargs) if self.op.reference is not None else call(*args, **kwargs)
        return self.op.facts.made(torch, out, args, kwargs)

    def samples(self) -> Iterator[list[Any]]:
        """The op of inputs whose elements are changed by a small relative amount, each time another.

        In turn all elements of an input by the same amount, with every combination of signs of the first four inputs (the largest of
        which is the sum of the magnitudes where the op works element by element), and each element with a sign of its own.
        """
        torch = self.torch
        groups = sorted(set(self.groups), key=str)
        for sample in range(_SAMPLES):
            own, pattern = sample % 2 == 0, sample // 2

            def changed(value: Any, at: Any, own: bool = own, pattern: int = pattern, sample: int = sample) -> Any:
                k = groups.index(at) if at in groups else 0
                turn = -1.0 if k and pattern >> (k - 1) % 3 & 1 else 1.0
                if not own:
                    return value * (1.0 + turn * STEP)
                signs = _signs(torch, value, sample * 64 + k)
                return value * (1.0 + signs * STEP)

            def scalar(value: float, sample: int = sample) -> float:
                return value if isinstance(value, int) or _is_float32(value) else value * (1.0 + (STEP if sample // 2 % 2 else -STEP))

            yield self.computed(changed, scalar)

    def magnitudes(self) -> list[Any]:
        """The op of the inputs' absolute values: for sums of products the sum of the magnitudes of the terms."""
        return self.computed(lambda value, _at: value.abs().to(value.dtype), abs)


def _signs(torch: Any, like: Any, seed: int) -> Any:
    """Signs that look random, of as many elements: made of integers alone, so no stream of the script's is drawn from."""
    at = torch.arange(like.numel(), dtype=torch.int64, device=like.device)
    at = (at + seed * 7919) * 6364136223846793005 + 1442695040888963407
    at = (at ^ (at >> 29)) * -4658895280553007687
    return (1.0 - 2.0 * ((at >> 41) & 1).to(torch.float64)).reshape(like.shape)


def _is_float32(value: float) -> bool:
    """Whether a number of the script's is the same in float32, in which kernels take it."""
    import struct

    try:
        return bool(struct.unpack("f", struct.pack("f", value))[0] == value)
    except OverflowError as error:
        if interrupts(error):
            raise
        return False
