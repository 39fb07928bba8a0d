"""By how much one result is off its reference, and by how much more than its error bound allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from auditor.interruptions import interrupts
from auditor.record.observers.shadow.case import STEP, Case, Op
from auditor.tolerance import (
    FORMATS,
    MARGIN,
    REDUCED,
    Tolerance,
    accumulation_length,
    computed_in,
    effective_roundoff,
    unit_roundoff,
)

#: Two operands, each of which may be truncated (twice the error of rounding) to the reduced precision.
_TRUNCATED = 4.0
#: The bits of a float64 in which its exponent is.
_EXPONENT = 0x7FF0000000000000
#: Beyond this argument the exponential is infinite.
_LARGEST_EXPONENT = {"float16": 11.0}
#: Excess of an op of which no bound is known.
UNKNOWN = -1.0


def excess_of(
    torch: Any, op: Op, case: Case, slot: int, tensor: Any, references: dict[int, Any], times: float
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


def _changes(case: Case, tolerance: Tolerance) -> Iterator[tuple[bool, dict[int, Any]]]:
    if tolerance.sensitivity == "magnitudes":
        yield True, dict(case.magnitudes())
        return
    for sample in case.samples():
        yield False, dict(sample)


def _spread(torch: Any, changed: tuple[bool, dict[int, Any]], references: dict[int, Any], case: Case, slot: int, device: Any) -> Any:
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
        found = _magnitude(made[slot] - exact[slot]).mul_(1 / STEP)
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


def _input(torch: Any, case: Case, tolerance: Tolerance, shape: Any) -> Any:
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


def _nonfinite(torch: Any, op: Op, case: Case, tensor: Any, result: Any, reference: Any) -> float:
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


def _underflows(torch: Any, tolerance: Tolerance, case: Case, inner: str) -> bool:
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
