"""Computes each op a second time, in float64 or on another device, and measures by how much its result is off.

The reference is made of the same inputs, upcast, so what is measured is what this op added and nothing that it was given. Whether that is
more than its due is asked of the tolerance rules (`auditor.tolerance`, docs/tolerances.md). Everything works on detached copies, below
autograd, out of every mode's sight, and draws from no stream of the script's; what cannot be computed again is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.callsite import hide_us
from auditor.record.probes import recurrent
from auditor.record.probes.op_facts import NUMBER, QUERY, OpFacts
from auditor.record.probes.torch_ops import learn_op
from auditor.tolerance import (
    FORMATS,
    MARGIN,
    REDUCED,
    Tolerance,
    accumulation_length,
    computed_in,
    effective_roundoff,
    from_json,
    matching,
    unit_roundoff,
)

if TYPE_CHECKING:
    from auditor.record.lane import Lane
    from auditor.record.probes.torch_ops import Handler

#: Relative change of the inputs by which sensitivity is measured: far above the rounding of float64, far below where functions bend.
_STEP = 2.0**-20
#: Samples of which the largest is taken: that all of 16 normal numbers are below 0.3 of their deviation has a chance of 1e-10.
_SAMPLES = 16
#: Two operands, each of which may be truncated (twice the error of rounding) to the reduced precision.
_TRUNCATED = 4.0
#: Arguments of fused ops that their kernels read as float32, whatever the parameters are.
_KEPT = ("state_steps", "found_inf", "inv_scale", "grad_scale")
#: The bits of a float64 in which its exponent is.
_EXPONENT = 0x7FF0000000000000
#: Beyond this argument the exponential is infinite.
_LARGEST_EXPONENT = {"float16": 11.0}
_DROPOUT = "dropout_p"
#: Excess of an op of which no bound is known.
UNKNOWN = -1.0

#: References for ops that have no kernel for float64.
_REFERENCES: dict[str, Callable[..., Any]] = {
    "aten.mkldnn_rnn_layer.default": recurrent.layer,
    "aten.mkldnn_rnn_layer_backward.default": recurrent.layer_backward,
}


class _CannotError(Exception):
    """An op that cannot be computed again, and why."""


class _Op:
    """What is known of an op before it runs."""

    __slots__ = ("call", "dropout", "facts", "keeps", "name", "narrow", "reference", "skipped", "tolerance", "writes")

    def __init__(self, func: Any, facts: OpFacts, call: Any, tolerances: list[Tolerance]) -> None:
        self.name = facts.name
        self.facts = facts
        schema = getattr(func, "_schema", None)
        names = [] if schema is None else [argument.name for argument in schema.arguments]
        # where an op that may draw says whether it does: attention, most of whose calls are without dropout
        self.dropout = names.index(_DROPOUT) if facts.random and _DROPOUT in names else None
        draws = facts.random and self.dropout is None
        # Random ops: a second call would draw again. Collectives: it would send again. Views and queries compute nothing.
        self.skipped = schema is None or draws or facts.collective or facts.shares or facts.empty or facts.flag in (QUERY, NUMBER)
        self.keeps = {name for name in names if name in _KEPT} | {at for at, name in enumerate(names) if name in _KEPT}
        # softmax in half precision with a float32 result, which no kernel has for float64
        self.narrow = {"half_to_float"} | {at for at, name in enumerate(names) if name == "half_to_float"}
        self.writes = set(facts.writes)
        self.tolerance = matching(tolerances, facts.name)
        self.reference = _REFERENCES.get(facts.name)
        self.call = call

    def is_left_out(self, args: Any, kwargs: Any) -> bool:
        """Whether this call has nothing to compute again, or would draw from a stream again."""
        if self.skipped or self.dropout is None:
            return self.skipped
        return bool(args[self.dropout] if len(args) > self.dropout else (kwargs or {}).get(_DROPOUT))


class _Case:
    """One call of an op: its arguments in float64, from which it can be computed as often as wanted."""

    def __init__(self, torch: Any, op: _Op, args: Any, kwargs: Any) -> None:
        """Copy what the op is about to write; upcast everything. Raises _CannotError."""
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
            raise _CannotError("it is given a tensor that is not dense")
        if tensor.device.type == "meta":
            raise _CannotError("it is given a tensor without data")
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
                    return value * (1.0 + turn * _STEP)
                signs = _signs(torch, value, sample * 64 + k)
                return value * (1.0 + signs * _STEP)

            def scalar(value: float, sample: int = sample) -> float:
                return value if isinstance(value, int) or _is_float32(value) else value * (1.0 + (_STEP if sample // 2 % 2 else -_STEP))

            yield self.computed(changed, scalar)

    def magnitudes(self) -> list[Any]:
        """The op of the inputs' absolute values: for sums of products the sum of the magnitudes of the terms."""
        return self.computed(lambda value, _at: value.abs().to(value.dtype), abs)


def watch(lane: Lane, torch: Any, settings: dict[str, Any]) -> Handler:
    """The lane's handler, computing each op a second time. `settings`: `as` (`float64` or a device) and `tolerances` (their JSON)."""
    plain: Handler = lane.handler
    tolerances = from_json(settings.get("tolerances") or ())
    device = None if settings.get("as", "float64") == "float64" else torch.device(settings["as"])
    known: dict[Any, _Op] = {}
    unmeasured: dict[tuple[str, str], int] = {}
    _silence_warnings()

    def count(op: _Op, why: str) -> None:
        unmeasured[op.name, why] = unmeasured.get((op.name, why), 0) + 1

    def tell() -> None:
        for (name, why), times in unmeasured.items():
            lane.line({"k": "unshadowed", "op": name, "why": why, "count": times})

    lane.at_end.append(tell)

    @digest.unseen
    def case_of(op: _Op, args: Any, kwargs: Any) -> _Case | None:
        try:
            case = _Case(torch, op, args, kwargs)
        except _CannotError as error:
            if interrupts(error):
                raise
            count(op, str(error))
            return None
        except Exception as error:  # wrappers, functional and other tensors that cannot be copied like others
            if interrupts(error):
                raise
            count(op, f"its inputs cannot be copied: {type(error).__name__}")
            return None
        return case if case.dtypes else None  # without floating inputs there is nothing to compute better

    @digest.unseen
    def compare(op: _Op, case: _Case, made: list[tuple[int, Any]], args: Any, kwargs: Any) -> None:
        wanted = [(slot, tensor) for slot, tensor in made if _is_measured(torch, tensor)]
        if not wanted:
            if any(tensor.dtype in (torch.float64, torch.complex128) for _, tensor in made):
                count(op, "it is float64 already")
            return
        try:
            number = next(tensor.untyped_storage()._repro_audit for _, tensor in made)
        except Exception as error:  # an output without a storage of its own has no record either
            if interrupts(error):
                raise
            count(op, "its result has no storage")
            return
        try:
            found = case.computed() if device is None else _on(torch, device, op, args, kwargs)
        except Exception as error:  # an op may be made for some dtypes only
            if interrupts(error):
                raise
            count(op, f"in {settings.get('as')}: {_first_line(error)}")
            return
        references = dict(found)
        if any(slot not in references or references[slot].shape != tensor.shape for slot, tensor in wanted):
            count(op, "it returns other shapes there")
            return
        try:
            for slot, tensor in wanted:
                measure = _measured(torch, op, case, slot, tensor, references, 1.0 if device is None else 2.0)
                if measure is not None:
                    lane.writer.shadow(number, slot, *measure)
        except Exception as error:  # out of memory, a kernel that is missing on some device
            if interrupts(error):
                raise
            count(op, f"it could not be measured: {_first_line(error)}")

    def look(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            op = known.get(func)
            if op is None:
                facts = getattr(func, "_repro_audit", None) or learn_op(func)
                op = known[func] = _Op(func, facts[3], facts[2], tolerances)
            if types or op.is_left_out(args, kwargs):
                return plain.dispatch(mode, func, types, args, kwargs)
            before = lane.number()
            case = case_of(op, args, kwargs) if op.writes else None
            ready = case is not None or not op.writes
            kept = _before(torch, device, op, args, kwargs) if device is not None and op.writes and ready else (args, kwargs)
            out = plain.dispatch(mode, func, types, args, kwargs)
            if out is not NotImplemented and ready and lane.number() != before:
                made = op.facts.made(torch, out, args, kwargs)
                if any(tensor.is_floating_point() or tensor.is_complex() for _, tensor in made):
                    case = case or case_of(op, args, kwargs)
                    if case is not None:
                        compare(op, case, made, *kept)
            return out
        except BaseException as error:
            hide_us(error)
            raise

    return plain._replace(dispatch=look)


def _is_measured(torch: Any, tensor: Any) -> bool:
    return bool(
        str(tensor.dtype)[6:] in FORMATS
        and tensor.dtype not in (torch.float64, torch.complex128)
        and tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and tensor.numel() > 0
    )


def _measured(
    torch: Any, op: _Op, case: _Case, slot: int, tensor: Any, references: dict[int, Any], times: float
) -> tuple[int, float, float, float, float, float] | None:
    """`at, ulps, mean, error, norm, excess` of one output; `times`: how many implementations may be off by their due."""
    # A tensor of 16 MB is read some ten times here, so each pass over it counts: most is done in place, and what all results have is asked
    # by norms, which are not finite if an element is not.
    reference = references[slot].detach()
    dtype = str(tensor.dtype)[6:]
    bits, smallest = FORMATS[dtype]
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    result = tensor.detach().to(wide)
    reference = reference.to(device=result.device, dtype=wide)
    norm = float(torch.linalg.vector_norm(reference))
    if norm < float("inf") and torch.equal(result, reference):
        return 0, 0.0, 0.0, 0.0, norm, 0.0
    magnitude = reference.abs()
    error = _magnitude(result - reference)
    total = float(torch.linalg.vector_norm(error))
    excess_of_nonfinite = 0.0
    if not (norm < float("inf") and total < float("inf")):
        good = magnitude.isfinite() & result.abs().isfinite()
        error, magnitude = torch.where(good, error, 0.0), torch.where(good, magnitude, 0.0)
        norm, total = (float(torch.linalg.vector_norm(one)) for one in (magnitude, error))
        excess_of_nonfinite = 0.0 if bool(good.all()) else _nonfinite(torch, op, case, tensor, result, references[slot])
    if not float(error.max()):
        return 0, 0.0, 0.0, 0.0, norm, excess_of_nonfinite
    ulp = _ulp(torch, magnitude, bits, smallest)
    in_ulps = error / ulp
    tolerance = op.tolerance
    mean, most = float(in_ulps.mean()), float(in_ulps.max())
    if tolerance is None or not tolerance.judged:
        return int(in_ulps.argmax()), most, mean, total, norm, excess_of_nonfinite or UNKNOWN
    inner = computed_in(dtype)
    shapes = [tuple(x.shape) for x in case.floats]
    outputs = [tuple(one.shape) for _, one in sorted(references.items())]
    outputs.insert(0, tuple(tensor.shape))
    length = accumulation_length(tolerance.length, shapes, outputs)
    # what lies between may be rounded to a half format of an input's, as in the backward of an op under autocast
    between = max((dtype, *(str(one)[6:] for one in case.dtypes)), key=unit_roundoff)
    grown = MARGIN * effective_roundoff(tolerance, between, length)
    if inner == dtype:
        due = ulp.mul_(tolerance.ulps)
    else:
        due = ulp.mul_(0.5).add_(magnitude, alpha=2 * tolerance.ulps * unit_roundoff(inner))
    # what lies below the smallest normal number of the computation may be flushed to zero, term by term
    due += 2.0 ** FORMATS[inner][1] * (length if tolerance.growth else 1.0)
    if computed_in(between) != between and tolerance.growth and tolerance.stored != "none":
        low, least = FORMATS[between]
        due += 4 * 2.0 ** (least - low + 1)  # results between that lie below the normal numbers are rounded to a multiple of this
    due += grown * tolerance.absolute
    if tolerance.floor:
        due += grown * tolerance.floor * _input(torch, case, tolerance, magnitude.shape)
    coarse = _reduced(torch, tolerance, dtype, tensor.device.type)
    factor = tolerance.growth * grown + _TRUNCATED * coarse
    due.add_(magnitude, alpha=factor).mul_(times)
    ratio = error / due
    excess = _largest(torch, ratio)
    if factor and excess > 1:
        # the dear question, asked only now: how sensitive is each element to its inputs
        sensitivity = None
        for changed in _changes(case, tolerance):
            spread = _spread(torch, changed, references, case, slot, due.device)
            if tolerance.length == "kernel" and spread.dim() > 2:
                # Winograd's transforms (NNPACK, cuDNN) mix what lies in a tile, so an element may be as far off as the largest in its plane
                spread = spread.amax(tuple(range(2, spread.dim())), keepdim=True).expand(spread.shape).clone()
            sensitivity = spread if sensitivity is None else torch.maximum(sensitivity, spread, out=sensitivity)
            torch.div(error, torch.add(due, sensitivity, alpha=times * factor), out=ratio)
            excess = _largest(torch, ratio)
            if excess <= 1:
                break
    if excess > 1 and _underflows(torch, tolerance, case, inner):
        excess = UNKNOWN
    return int(ratio.argmax()), most, mean, total, norm, max(excess, excess_of_nonfinite)


def _changes(case: _Case, tolerance: Tolerance) -> Iterator[tuple[bool, dict[int, Any]]]:
    if tolerance.sensitivity == "magnitudes":
        yield True, dict(case.magnitudes())
        return
    for sample in case.samples():
        yield False, dict(sample)


def _spread(torch: Any, changed: tuple[bool, dict[int, Any]], references: dict[int, Any], case: _Case, slot: int, device: Any) -> Any:
    """The sensitivity of each element that one change of the inputs shows."""
    itself, made = changed
    if itself:
        found = made[slot].abs()  # of our own: an op may return what it was given
    else:
        exact = case.__dict__.setdefault("exact", None)
        if exact is None:
            # on another device the reference is no float64 result
            wide = all(one.dtype in (torch.float64, torch.complex128) or not one.is_floating_point() for one in references.values())
            exact = case.__dict__["exact"] = references if wide else dict(case.computed())
        found = _magnitude(made[slot] - exact[slot]).mul_(1 / _STEP)
    found = found.to(device=device, dtype=torch.float64)
    return found.nan_to_num_(nan=float("inf"), posinf=float("inf"))


def _magnitude(difference: Any) -> Any:
    """Of a tensor that nobody else has."""
    return difference.abs() if difference.is_complex() else difference.abs_()


def _largest(torch: Any, ratio: Any) -> float:
    """The largest element, where what is no number counts as nothing, and is made so."""
    found = float(ratio.max())
    if found != found:  # no number
        found = float(ratio.copy_(torch.where(ratio.isnan(), 0.0, ratio)).max())
    return found


def _ulp(torch: Any, magnitude: Any, bits: int, smallest: int) -> Any:
    """The unit in the last place of a dtype at these magnitudes; below the smallest normal number, that of the smallest normal."""
    power = (magnitude.view(torch.int64) & _EXPONENT).view(torch.float64)  # the bits of a power of two are its exponent alone
    return power.clamp_(min=2.0**smallest).mul_(2.0 ** (1 - bits))


def _input(torch: Any, case: _Case, tolerance: Tolerance, shape: Any) -> Any:
    """Magnitude of the input that the floor is a part of: element by element where it can be stretched to the output."""
    chosen = case.floats if tolerance.floor_of is None else case.floats[tolerance.floor_of : tolerance.floor_of + 1]
    found: Any = 0.0
    for tensor in chosen:
        if not tensor.numel():
            continue
        size = tensor.abs()
        tail = shape[len(shape) - size.dim() :]
        fits = size.dim() <= len(shape) and all(one in (1, whole) for one, whole in zip(size.shape, tail, strict=True))
        if not fits:
            size = size.max()
        found = size if isinstance(found, float) else torch.maximum(found, size)
    return found


def _nonfinite(torch: Any, op: _Op, case: _Case, tensor: Any, result: Any, reference: Any) -> float:
    """Infinity if there is an infinity or nan where a correct rounding is a number; otherwise 0.0.

    Not where an input is no number, nor where squares or exponentials of the inputs leave the range of the dtype: an intermediate result
    may overflow.
    """
    largest = torch.finfo(tensor.dtype).max
    wrong = ~result.abs().isfinite() & (reference.to(result.device).abs() < largest * 0.99)
    if not bool(wrong.any()) or op.tolerance is None or not op.tolerance.judged:
        return 0.0
    dtype = str(tensor.dtype)[6:]
    between = dtype if op.tolerance.stored != "none" else computed_in(dtype)  # the dtype of intermediate results
    limits = torch.finfo(getattr(torch, between))
    reach = 1.0  # of an exponent that is a product of two inputs
    for value in case.floats:
        if not value.numel():
            continue
        size = value.abs()
        if not bool(size.isfinite().all()):
            return 0.0
        high = float(size.max())
        low = float(torch.where(size > 0, size, 1.0).min())
        reach *= max(high, 1.0)
        # squares and sums of them, exponentials, quotients by squares
        if high * high * value.numel() > limits.max or reach > _LARGEST_EXPONENT.get(between, 88.0) or low * low < limits.tiny:
            return 0.0
    return float("inf")


def _underflows(torch: Any, tolerance: Tolerance, case: _Case, inner: str) -> bool:
    """Whether squares of the inputs vanish: what is computed from them (a norm, a variance) is then off by any factor."""
    if not tolerance.growth:
        return False
    largest = max((float(value.abs().max()) for value in case.floats if value.numel()), default=0.0)
    return bool(0 < largest < float(torch.finfo(getattr(torch, inner)).tiny) ** 0.5 * 2**12)


def _reduced(torch: Any, tolerance: Tolerance, dtype: str, device: str) -> float:
    """Unit roundoff of the reduced precision in which products are allowed to be computed now; 0.0 if they are not."""
    what = tolerance.reduced
    if what is None:
        return 0.0
    core = torch._C
    if dtype != "float32":
        if device != "cuda" or what != "matmul" or dtype not in ("float16", "bfloat16"):
            return 0.0
        short = "fp16" if dtype == "float16" else "bf16"
        try:
            allowed = getattr(core, f"_get_cublas_allow_{short}_reduced_precision_reduction")()
        except AttributeError as error:
            if interrupts(error):
                raise
            return 0.0
        return unit_roundoff(dtype) if (allowed[0] if isinstance(allowed, tuple) else allowed) else 0.0
    name = "conv" if what == "convolution" else what
    backend = "cuda" if device == "cuda" else "mkldnn"
    try:
        return REDUCED.get(core._get_fp32_precision_getter(backend, name), 0.0)
    except Exception as error:  # before 2.9 there were flags
        if interrupts(error):
            raise
    try:
        if device == "cuda":
            return REDUCED["tf32"] if (core._get_cublas_allow_tf32() if what == "matmul" else core._get_cudnn_allow_tf32()) else 0.0
        return REDUCED["bf16"] if what == "matmul" and core._get_float32_matmul_precision() == "medium" else 0.0
    except Exception as error:  # another torch, which mixes old flags with new ones and refuses to answer
        if interrupts(error):
            raise
        return 0.0


def _on(torch: Any, device: Any, op: _Op, args: Any, kwargs: Any) -> list[Any]:
    """The op in its own dtype on another device."""
    moved = _moved(torch, device, args, kwargs)
    out = op.call(*moved[0], **moved[1])
    return [(slot, tensor) for slot, tensor in op.facts.made(torch, out, *moved)]


@digest.unseen
def _before(torch: Any, device: Any, op: _Op, args: Any, kwargs: Any) -> tuple[Any, Any]:
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


def _first_line(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:200]


def _silence_warnings() -> None:
    """Let no warning out that an op gives a second time, to us; the script's own go their way."""
    warnings: Any = sys.modules.get("warnings")
    shown = getattr(warnings, "_showwarnmsg", None)
    if shown is None or getattr(shown, "_repro_audit", False):
        return

    def others(message: Any) -> Any:
        return None if message.filename == __file__ else shown(message)

    others._repro_audit = True  # type: ignore[attr-defined]  # marks it as installed
    warnings._showwarnmsg = others
