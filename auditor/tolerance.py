"""Error bounds for correct implementations of ops: one rule of `rules/tolerances/` as data, and the bounds that follow from it.

docs/tolerances.md explains the analysis. This module is also used in the user's process, so it imports nothing that a script could notice
and does not need torch: shapes are sequences of sizes, dtypes are names (`float32`), a norm is the Euclidean norm of all elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

#: Bits of the significand including the implicit one, and the smallest exponent of a normal number (IEEE 754-2019; bfloat16 and the 8-bit
#: formats as in the Open Compute Project's specification, revision 1.0).
FORMATS = {
    "float64": (53, -1022),
    "float32": (24, -126),
    "bfloat16": (8, -126),
    "float16": (11, -14),
    "float8_e4m3fn": (4, -6),
    "float8_e5m2": (3, -14),
    "complex128": (53, -1022),
    "complex64": (24, -126),
    "complex32": (11, -14),
}

#: The dtype that narrower formats are computed in, before the result is rounded.
_COMPUTED_IN = {
    "bfloat16": "float32", "float16": "float32", "float8_e4m3fn": "float32", "float8_e5m2": "float32", "complex32": "complex64",
}  # fmt: skip

#: Factor on the part of a bound that is an estimate, not a documented or proved maximum: constants count the roundings of one algorithm,
#: and the sensitivity is the largest of a few samples. None of 0.5 million measured results of correct kernels (docs/tolerances.md) needed
#: it. One correct kernel is known to exceed its estimate, by a factor of 1.18: oneDNN's gelu for AVX-512, of which 4 million arguments were
#: tried. A factor of 2 allows for one more algorithm with the same error.
MARGIN = 2.0

#: Unit roundoff of products in reduced precision: TensorFloat-32 has 10 + 1 significant bits, bfloat16 7 + 1.
REDUCED = {"tf32": 2.0**-11, "bf16": 2.0**-8}

Shape = Sequence[int]


class Tolerance(NamedTuple):
    """One rule: an error bound for the results of some ops; its file gives the error analysis.

    The error bound of an element y of the result is

        ulps * ulp(y)  +  MARGIN * sqrt(length) * u * (growth * (S + |y|)  +  floor * |x|  +  absolute)

    with u the unit roundoff of the dtype that the op computes in (see `effective_roundoff`), S the sensitivity of y to relative changes of
    the inputs, and x an input.
    """

    id: str
    ops: tuple[str, ...]
    """Globs over op names: a whole name (`aten.mm.default`), or one without overload and trailing underscore (`aten.add`)."""
    judged: bool = True
    """Whether there is a bound at all."""
    ulps: float = 0.5
    """Rounding error of the result, in units in the last place: 0.5 for a correctly rounded result."""
    growth: float = 0.0
    """Backward error in units of u for an accumulation of length 1."""
    length: str = "one"
    """The length over which the op accumulates: see `accumulation_length`."""
    sensitivity: str = "spread"
    """How S is computed: `magnitudes` (the op of the inputs' absolute values) or `spread` (the op of randomly perturbed inputs)."""
    floor: float = 0.0
    floor_of: int | None = None
    """Index of the floating input for the floor; None: the largest."""
    absolute: float = 0.0
    """Rounding error of an intermediate result of size one, in units of u."""
    stored: str = "once"
    """What is rounded to a half-width format before the result: `none`, some intermediate results (`once`), or `each` partial sum."""
    reduced: str | None = None
    """The ops whose reduced-precision settings apply: `matmul`, `convolution` or `rnn`."""
    norms: str | None = None
    """What the norms alone tell: `elementwise`, `sum`, `mean`, `products`, `quotient`; None: nothing."""
    lipschitz: float = 1.0
    """With `elementwise`: the largest factor by which the function amplifies a change of its inputs."""
    rank: int = 0
    """Index of the folder of rules that it is from: the lowest takes precedence."""


def unit_roundoff(dtype: str) -> float:
    """Largest relative error of rounding to nearest, 2**-p for p significant bits; 0.0 for an integer dtype.

    Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), section 2.1.
    """
    found = FORMATS.get(dtype)
    return 2.0 ** -found[0] if found else 0.0


def computed_in(dtype: str) -> str:
    """The dtype in which kernels compute a result of this dtype: float32 for the half-width formats."""
    return _COMPUTED_IN.get(dtype, dtype)


def matching(tolerances: Iterable[Tolerance], op: str) -> Tolerance | None:
    """The tolerance for an op name (`aten.mm.default`), or None: the user's before the shipped ones, then the most specific glob."""
    base = base_name(op)
    fitting = [
        (one.rank, -len(glob.replace("*", "")), order, one)
        for order, one in enumerate(tolerances)
        for glob in one.ops
        if _fits(base, glob) or _fits(op, glob)
    ]
    return min(fitting)[-1] if fitting else None


def base_name(op: str) -> str:
    """An op's name without overload and in-place underscore: `aten.add_.Tensor` gives `aten.add`."""
    parts = op.split(".")
    name = ".".join(parts[:2]) if len(parts) > 2 else op
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _fits(name: str, glob: str) -> bool:
    """Whether a glob matches; `*` is its only special character. fnmatch would import `re` into a script that has not loaded it."""
    first, *rest = glob.split("*")
    if not rest:
        return name == glob
    if not name.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(name) - at >= len(rest[-1]) and name.endswith(rest[-1])


def elements(shape: Shape) -> int:
    """Number of elements."""
    product = 1
    for size in shape:
        product *= size
    return product


def accumulation_length(kind: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Number of terms that an op adds up per element of its (first) output, from shapes alone; at least 1.

    `last-of-k`: last dimension of input k (a matrix product); `reduced`: elements of the first input per element of the output; `longest`:
    the longest dimension; `kernel`: for a convolution, the longest sum in it and its gradients; `rows`: for a normalisation, the longer of
    a row and the number of rows; `elements`: of the largest input; `logarithm`: its binary logarithm (fast transforms, trees);
    `coordinates`: the square of the longest dimension, because a position is only known to u times that.
    """
    if kind == "one" or not inputs:
        return 1
    largest = max(map(elements, inputs))
    dims = [size for shape in (*inputs, *outputs) for size in shape]
    if kind in ("last-of-0", "last-of-1"):
        shape = inputs[min(int(kind[-1]), len(inputs) - 1)]
        found = shape[-1] if shape else 1
    elif kind == "reduced":
        found = -(-largest // max(1, elements(outputs[0]) if outputs else 1))
    elif kind == "longest":
        found = max(dims, default=1)
    elif kind == "coordinates":
        found = max(dims, default=1) ** 2
    elif kind == "kernel":
        found = _kernel(inputs, outputs)
    elif kind == "rows":
        smallest = min((n for n in map(elements, outputs) if n), default=1)
        found = max(smallest, -(-largest // smallest))
    elif kind == "logarithm":
        found = max(1, largest).bit_length()
    else:
        found = largest
    return max(1, found)


def effective_roundoff(tolerance: Tolerance, dtype: str, length: int) -> float:
    """sqrt(length) u for accumulation over `length` terms, in the precision that the tolerance says.

    u is that of the dtype computed in, plus the output's u if intermediate results are stored in it; only the output's u if each partial
    sum is rounded to it.
    """
    inner, narrow, root = unit_roundoff(computed_in(dtype)), unit_roundoff(dtype), float(length**0.5)
    if tolerance.stored == "each":
        return root * narrow
    return root * inner + (narrow if tolerance.stored == "once" and narrow > inner else 0.0)


def _kernel(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """The longest sum in a convolution or its backward: over a kernel and its channels, or over the batch and all positions."""
    images = [shape for shape in inputs if len(shape) > 2]
    if len(images) < 2:
        return max(map(elements, inputs))
    if len(images) == 2:  # input, weight; a transposed one has the input's channels first
        weight, channels = images[1], outputs[0][1] if outputs and len(outputs[0]) > 1 else 0
        return elements(weight) // max(1, weight[0] if weight[0] == channels else weight[1])
    gradient, image, weight = images[:3]
    return max(*(elements(weight) // max(1, size) for size in weight[:2]), *(elements(one) // max(1, one[1]) for one in (gradient, image)))


def norm_bound(
    tolerance: Tolerance,
    dtype: str,
    inputs: Sequence[tuple[Shape, float]],
    output: tuple[Shape, float],
    args: Sequence[object] = (),
) -> float | None:
    """Bound on the norm of the difference between the results of two correct implementations for equal inputs.

    `inputs`: shape and norm of each floating input in order; `output`: those of the result; `args`: the other arguments as in the trace.
    None where no bound follows from norms alone. Twice the bound of one implementation, summed over the elements: |ulp(y)| <= 2 u |y|.
    """
    if not tolerance.judged or dtype not in FORMATS:
        return None
    shape, size = output
    shapes = [one for one, _ in inputs]
    inner = computed_in(dtype)
    u, narrow = unit_roundoff(inner), unit_roundoff(dtype)
    rounding = 2 * tolerance.ulps * u * size + (narrow * size if inner != dtype else 0.0)
    rounding += (2.0 ** FORMATS[dtype][1]) * 2 * narrow * elements(shape) ** 0.5  # results below the smallest normal number
    grown = MARGIN * effective_roundoff(tolerance, dtype, accumulation_length(tolerance.length, shapes, [shape]))
    bound: float = rounding + tolerance.absolute * grown * elements(shape) ** 0.5
    if tolerance.floor:
        spread = [norm * _repeats(one, shape) for one, norm in inputs]
        bound += tolerance.floor * grown * (max(spread, default=0.0) if tolerance.floor_of is None else sum(spread))
    if tolerance.growth:
        sensitivity = _sensitivity(tolerance, inputs, output, args)
        if sensitivity is None:
            return None
        bound += tolerance.growth * grown * (sensitivity + size)
    return 2 * bound


def inherited_bound(
    tolerance: Tolerance,
    inputs: Sequence[tuple[Shape, float, float]],
    output: tuple[Shape, float],
    args: Sequence[object] | None = None,
) -> float | None:
    """Bound on the norm of the inherited error: the difference of the results that differences of the inputs explain.

    `inputs`: shape, norm and norm of the difference of each floating input in order. Sums of products: ||A|| ||dB|| + ||dA|| ||B|| + ||dA||
    ||dB||; sums: a change of one term counts once; functions: their Lipschitz constant. `args` as for `norm_bound`. None where no
    bound follows from norms alone.
    """
    if not tolerance.judged or tolerance.norms is None or _scaled(args):
        return None
    shape = output[0]
    if tolerance.norms == "elementwise":
        return tolerance.lipschitz * sum(delta * _repeats(one, shape) for one, _, delta in inputs)
    if tolerance.norms in ("sum", "mean"):
        if len(inputs) != 1:
            return None
        one, _, delta = inputs[0]
        length = max(1.0, elements(one) / max(1, elements(shape)))
        return float(delta * (length**0.5 if tolerance.norms == "sum" else length**-0.5))
    if tolerance.norms == "products":
        factors, added = _factors(inputs, shape)
        if len(factors) != 2:
            return None
        (_, a, da), (_, b, db) = factors
        return a * db + da * b + da * db + sum(delta * _repeats(one, shape) for one, _, delta in added)
    return None


def _sensitivity(
    tolerance: Tolerance, inputs: Sequence[tuple[Shape, float]], output: tuple[Shape, float], args: Sequence[object]
) -> float | None:
    """Bound on the norm of S, the sensitivity to relative changes of the inputs; None where none follows from norms."""
    shape, size = output
    if tolerance.norms == "quotient":  # elementwise products and quotients: a relative change of a factor is one of the result
        return len(inputs) * size
    if tolerance.norms is None or _scaled(args):
        return None
    if tolerance.norms == "elementwise":
        return tolerance.lipschitz * sum(norm * _repeats(one, shape) for one, norm in inputs)
    if tolerance.norms in ("sum", "mean"):
        if len(inputs) != 1:
            return None
        one, norm = inputs[0]
        length = max(1.0, elements(one) / max(1, elements(shape)))
        return float(norm * (length**0.5 if tolerance.norms == "sum" else length**-0.5))
    factors, added = _factors([(one, norm, 0.0) for one, norm in inputs], shape)
    if len(factors) != 2:
        return None
    return factors[0][1] * factors[1][1] + sum(norm * _repeats(one, shape) for one, norm, _ in added)


def _factors(
    inputs: Sequence[tuple[Shape, float, float]], output: Shape
) -> tuple[list[tuple[Shape, float, float]], list[tuple[Shape, float, float]]]:
    """The two operands of a product and the summand: of three inputs, the summand is one that broadcasts to the output."""
    if len(inputs) != 3:
        return list(inputs), []
    fitting = [one for one in inputs if _stretches(one[0], output)]
    # a bias; where an operand has the shape of the summand too (all square), the first argument of addmm is the summand
    added = min(fitting, key=lambda one: (len(one[0]), inputs.index(one)), default=None)
    if added is None:
        return [], []
    rest = list(inputs)
    rest.remove(added)
    return rest, [added]


def _stretches(shape: Shape, output: Shape) -> bool:
    tail = list(output)[len(output) - len(shape) :] if shape else []
    return len(shape) <= len(output) and all(size in (1, out) for size, out in zip(shape, tail, strict=True))


def _repeats(shape: Shape, output: Shape) -> float:
    """Factor by which a norm grows when a tensor is broadcast to the output's shape."""
    return float(max(1.0, elements(output) / max(1, elements(shape))) ** 0.5)


def _scaled(args: Sequence[object] | None) -> bool:
    """Whether an op has scale factors that its norms do not tell: `alpha`, `beta`, any float."""
    return any(isinstance(value, float) or value in ("alpha", "beta") for value in args or ())


def as_json(tolerances: Iterable[Tolerance]) -> list[dict[str, Any]]:
    """The tolerances for the settings of a recorder; of each rule only the fields that differ from their defaults."""
    usual = Tolerance._field_defaults
    return [
        {key: list(value) if isinstance(value, tuple) else value for key, value in one._asdict().items() if usual.get(key, ...) != value}
        for one in tolerances
    ]


def from_json(data: Iterable[Mapping[str, Any]]) -> list[Tolerance]:
    """The inverse of `as_json`; unknown keys are skipped."""
    found = []
    for one in data:
        fields: dict[str, Any] = {key: tuple(value) if key == "ops" else value for key, value in one.items() if key in Tolerance._fields}
        found.append(Tolerance(**fields))
    return found
