"""Tolerances: how their files are read, and their bounds, tested against real arithmetic."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor import pipeline, plugins
from auditor.errors import UsageError
from auditor.judge import load_rules
from auditor.judge.tolerances import load_tolerances, read_tolerance
from auditor.tolerance import (
    FORMATS,
    Tolerance,
    accumulation_length,
    as_json,
    base_name,
    computed_in,
    effective_roundoff,
    from_json,
    inherited_bound,
    matching,
    norm_bound,
    unit_roundoff,
)

SHIPPED = load_tolerances(pipeline.shipped_rules())
FILES = sorted((pipeline.shipped_rules() / "tolerances").glob("*.yaml"))


def error_bound(op: str, *inputs: np.ndarray, output: np.ndarray, dtype: str = "float32", args: tuple[object, ...] = ()) -> float | None:
    """The norm-wise error bound of an op with these inputs."""
    tolerance = matching(SHIPPED, op)
    assert tolerance is not None
    return norm_bound(tolerance, dtype, [(x.shape, norm(x)) for x in inputs], (output.shape, norm(output)), args)


def norm(values: np.ndarray) -> float:
    """Euclidean norm, in float64."""
    return float(np.linalg.norm(values.astype(np.float64)))


def write_tolerance(folder: Path, name: str, text: str) -> Path:
    """A file in the tolerances of a folder of rules."""
    path = folder / "tolerances" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip("\n"))
    return path


# files


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_tolerance_has_all_required_parts(path: Path) -> None:
    rule, faults = read_tolerance(path)
    assert faults == []
    assert rule is not None
    assert len(rule.why) > 80, "the error analysis is missing"


def test_no_two_shipped_tolerances_have_the_same_glob() -> None:
    globs = [glob for one in SHIPPED for glob in one.ops]
    assert sorted({glob for glob in globs if globs.count(glob) > 1}) == []


def test_tolerance_files_are_not_read_as_rules(tmp_path: Path) -> None:
    rules = load_rules([pipeline.shipped_rules()], plugins.detectors())
    assert not {one.id for one in SHIPPED} & set(rules)
    write_tolerance(tmp_path, "anything", "no: rule\n")
    assert load_rules([tmp_path], plugins.detectors()) == {}


def test_every_error_of_every_tolerance_is_reported_at_once_with_its_position(tmp_path: Path) -> None:
    write_tolerance(
        tmp_path,
        "first",
        """
        id: first
        kind: tolerance
        ops: ["aten.mm", "not a glob"]
        why: because
        growth: -1
        length: for-ever
        ulps: .nan
        colour: red
        """,
    )
    write_tolerance(tmp_path, "second", "id: other\nkind: tolerance\nops: [aten.mm]\nwhy: because\nreferences: [a book]\nid: other\n")
    write_tolerance(tmp_path, "third", "- a list\n")
    write_tolerance(
        tmp_path, "fourth", "id: fourth\nkind: tolerance\nops: ['*']\nwhy: because\nreferences: [a book]\njudged: false\ngrowth: 4\n"
    )
    with pytest.raises(UsageError) as caught:
        load_tolerances(pipeline.shipped_rules(), [tmp_path])
    assert caught.value.slug == "bad-rule"
    first, *rest = caught.value.message.splitlines()
    assert first == "the tolerances cannot be used:"
    told = [line.removeprefix(f"{tmp_path}/tolerances/") for line in rest]
    places = [":".join(line.split(":")[:3]) for line in told]
    assert places == [
        "first.yaml:3:18", "first.yaml:7:1", "first.yaml:5:1", "first.yaml:6:1", "first.yaml:1:1", "first.yaml:8:1",
        "fourth.yaml:1:1", "second.yaml:6:1", "second.yaml:1:1", "third.yaml:1:1",
    ]  # fmt: skip
    said = "\n".join(told)
    for words in ("references is missing", "there is no key colour", "an op that is not judged has no bound", "id occurs twice",
                  "the tolerance other must be in a file named other.yaml", "mapping"):  # fmt: skip
        assert words in said, words


def test_a_users_tolerance_overrides_the_shipped_one_and_no_other(tmp_path: Path) -> None:
    write_tolerance(
        tmp_path, "mine", "id: mine\nkind: tolerance\nops: ['ours.*', 'aten.*mm']\nwhy: measured\nulps: 7\nreferences: [our notes]\n"
    )
    found = load_tolerances(pipeline.shipped_rules(), [tmp_path])
    assert [getattr(matching(found, op), "id", None) for op in ("aten.mm.default", "aten.addmm_.default", "ours.thing.default")] == [
        "mine"
    ] * 3
    assert matching(found, "aten.tanh.default") == matching(SHIPPED, "aten.tanh.default")._replace(rank=1)  # type: ignore[union-attr]  # ours has one


@pytest.mark.parametrize(
    ("op", "family"),
    [
        ("aten.add_.Tensor", "arithmetic"),
        ("aten.mm.out", "sums-of-products"),
        ("aten.div.Tensor", "products-and-quotients"),
        ("aten.div.Tensor_mode", "without-bound"),  # floors a quotient
        ("aten.max_pool2d_with_indices.default", "exact-choices"),
        ("aten.max.dim", "exact"),
        ("aten.addcmul_.default", "sums-with-a-product"),
        ("aten.max_pool2d_with_indices_backward.default", "scattered-sums"),
        ("aten.linalg_vector_norm.default", "variances"),
        ("aten.linalg_eigh.default", "linear-systems"),
        ("aten._foreach_add_.List", "arithmetic"),
        ("aten._foreach_addcdiv_.ScalarList", "optimizer-arithmetic"),
        ("aten._fused_adamw_.default", "optimizer-arithmetic"),
        ("aten.native_layer_norm_backward.default", "normalisations"),
        ("aten.round.default", "exact-choices"),
        ("aten.exp_.default", "elementary-functions"),
        ("aten.tanh_.default", "gentle-functions"),
        ("aten.gelu.default", "gelu"),
        ("aten.round.decimals", "without-bound"),
        ("aten.upsample_nearest2d.vec", "without-bound"),
        ("mylibrary.attention.default", "unknown-ops"),
    ],
)
def test_an_op_belongs_to_the_family_with_the_most_specific_glob(op: str, family: str) -> None:
    assert getattr(matching(SHIPPED, op), "id", None) == family


@given(order=st.permutations(SHIPPED))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_files_does_not_matter(order: list[Tolerance]) -> None:
    for op in ("aten.max_pool3d_with_indices_backward.default", "aten.zeros_like.default", "aten._foreach_norm.Scalar", "x.y.z"):
        assert matching(order, op) == matching(SHIPPED, op)


def test_tolerances_pass_through_the_settings_unchanged() -> None:
    text = json.dumps(as_json(SHIPPED))
    assert from_json(json.loads(text)) == SHIPPED
    assert len(text) < 60_000, "settings are passed in an environment variable, which holds 128 KB"
    later = [{**one, "of-a-later-version": 1} for one in json.loads(text)]
    assert from_json(later) == SHIPPED


# numbers


@pytest.mark.parametrize(("dtype", "kind"), [("float64", np.float64), ("float32", np.float32), ("float16", np.float16)])
def test_the_unit_roundoff_is_the_largest_relative_error_of_rounding(dtype: str, kind: type[np.floating]) -> None:
    u = unit_roundoff(dtype)
    assert kind(1 + u) == 1  # halfway, to even
    assert kind(1) + kind(2 * u) > 1
    assert u == np.finfo(kind).eps / 2
    assert 2.0 ** FORMATS[dtype][1] == np.finfo(kind).tiny
    assert unit_roundoff("int64") == 0


def test_half_formats_are_computed_in_float32() -> None:
    assert [computed_in(d) for d in ("bfloat16", "float16", "float32", "float64", "complex64")] == [
        "float32", "float32", "float32", "float64", "complex64",
    ]  # fmt: skip
    none, once, each = (Tolerance("x", ("*",), stored=stored) for stored in ("none", "once", "each"))
    u, narrow = 2.0**-24, 2.0**-8
    assert effective_roundoff(none, "bfloat16", 16) == 4 * u
    assert effective_roundoff(once, "bfloat16", 16) == 4 * u + narrow
    assert effective_roundoff(each, "bfloat16", 16) == 4 * narrow
    assert {effective_roundoff(one, "float32", 16) for one in (none, once, each)} == {4 * u}


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "length"),
    [
        ("one", [(5, 5)], [(5, 5)], 1),
        ("last-of-0", [(3, 40), (40, 7)], [(3, 7)], 40),
        ("last-of-1", [(7,), (3, 40), (40, 7)], [(3, 7)], 40),
        ("reduced", [(4, 30)], [(4,)], 30),
        ("reduced", [(4, 30)], [()], 120),
        ("longest", [(4, 30)], [(4, 30)], 30),
        ("kernel", [(8, 3, 32, 32), (16, 3, 5, 5), (16,)], [(8, 16, 28, 28)], 75),
        ("kernel", [(8, 16, 28, 28), (8, 3, 32, 32), (16, 3, 5, 5)], [(8, 3, 32, 32)], 8 * 32 * 32),
        ("rows", [(64, 32, 8, 8), (32,)], [(64, 32, 8, 8), (32,), (32,)], 64 * 8 * 8),
        ("rows", [(6, 100)], [(6, 100), (6, 1), (6, 1)], 100),
        ("rows", [(500, 10)], [(500, 10), (10,), (10,)], 500),
        ("elements", [(4, 30), (7,)], [()], 120),
        ("logarithm", [(1024,)], [(1024,)], 11),
        ("coordinates", [(1, 3, 20, 40)], [(1, 3, 10, 20)], 1600),
        ("longest", [], [()], 1),
        ("last-of-0", [()], [()], 1),
        ("reduced", [(0, 3)], [(3,)], 1),
    ],
)
def test_the_length_of_an_accumulation_follows_from_shapes(
    kind: str, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], length: int
) -> None:
    assert accumulation_length(kind, inputs, outputs) == length


def test_an_op_name_is_used_without_overload_and_underscore() -> None:
    names = ("aten.add_.Tensor", "aten.add.Tensor", "aten.__iadd__.Tensor", "aten._foreach_add_.List", "mine.op", "alone")
    assert [base_name(name) for name in names] == ["aten.add", "aten.add", "aten.__iadd__", "aten._foreach_add", "mine.op", "alone"]


@given(
    rows=st.integers(1, 30), inner=st.integers(1, 400), columns=st.integers(1, 30), seed=st.integers(0, 1000),
    shift=st.sampled_from([0.0, 1.0, -30.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_products_added_in_any_order_stay_within_the_error_bound(rows: int, inner: int, columns: int, seed: int, shift: float) -> None:
    stream = np.random.default_rng(seed)
    a = (stream.standard_normal((rows, inner)) + shift).astype(np.float32)
    b = (stream.standard_normal((inner, columns)) + shift).astype(np.float32)
    forward, backward = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.float32)
    for k in range(inner):
        forward += np.outer(a[:, k], b[k])
        backward += np.outer(a[:, inner - 1 - k], b[inner - 1 - k])
    bound = error_bound("aten.mm.default", a, b, output=forward)
    assert bound is not None
    assert norm(forward.astype(np.float64) - backward) <= bound
    # and the bound is not too loose: a hundredth of the terms' magnitude is far beyond
    assert bound < 0.01 * norm(np.abs(a) @ np.abs(b)) + 1e-30


@given(elements=st.integers(1, 5000), seed=st.integers(0, 1000), shift=st.sampled_from([0.0, 1.0, 100.0]))
@settings(max_examples=60, deadline=None)
def test_numbers_added_in_any_order_stay_within_the_error_bound(elements: int, seed: int, shift: float) -> None:
    values = (np.random.default_rng(seed).standard_normal(elements) + shift).astype(np.float32)
    one, other = np.cumsum(values, dtype=np.float32)[-1:], np.cumsum(values[::-1], dtype=np.float32)[-1:]
    for op, a, b in (("aten.sum.default", one, other), ("aten.mean.default", one / np.float32(elements), other / np.float32(elements))):
        bound = error_bound(op, values, output=a.reshape(()))
        assert bound is not None
        assert abs(float(a[0]) - float(b[0])) <= bound


def test_ops_that_move_numbers_may_round_once_and_inherit_differences_unchanged() -> None:
    tolerance = matching(SHIPPED, "aten.relu.default")
    assert tolerance is not None
    shape = (10, 10)
    assert norm_bound(tolerance, "float32", [(shape, 100.0)], (shape, 100.0)) == pytest.approx(2 * 2.0**-24 * 100)
    assert inherited_bound(tolerance, [(shape, 100.0, 0.5)], (shape, 100.0)) == 0.5


#: Ops with one input of 6 x 8 numbers whose rules bound the effect of a change from norms, computed by NumPy or a formula.
INHERITED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "aten.relu.default": lambda x: np.maximum(x, 0),
    "aten.abs.default": np.abs,
    "aten.amax.default": lambda x: x.max(1),
    "aten.max.dim": lambda x: x.max(0),
    "aten.sort.default": lambda x: np.sort(x, 1),
    "aten.median.default": lambda x: np.sort(x, None)[23],
    "aten.clamp.default": lambda x: np.clip(x, -1, 1),
    "aten.flip.default": np.flip,
    "aten.repeat.default": lambda x: np.tile(x, (3, 2)),
    "aten.add.Tensor": lambda x: x + 3.0,
    "aten.hypot.default": lambda x: np.hypot(x, 2.0),
    "aten.softplus.default": lambda x: np.log1p(np.exp(x)),
    "aten.silu.default": lambda x: x / (1 + np.exp(-x)),
    "aten.gelu.default": lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / 2**0.5)),
    "aten.tanh.default": np.tanh,
    "aten.sigmoid.default": lambda x: 1 / (1 + np.exp(-x)),
    "aten.sin.default": np.sin,
    "aten.erf.default": np.vectorize(math.erf),
    "aten.erfc.default": np.vectorize(math.erfc),
    "aten._softmax.default": lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True),
    "aten.sum.dim_IntList": lambda x: x.sum(0),
    "aten.mean.dim": lambda x: x.mean(1),
}  # fmt: skip


@pytest.mark.parametrize("op", sorted(INHERITED))
@given(seed=st.integers(0, 1 << 20), size=st.floats(1e-6, 1.0), alone=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_change_of_the_input_moves_a_result_within_the_inherited_bound(op: str, seed: int, size: float, alone: bool) -> None:
    stream = np.random.default_rng(seed)
    x = stream.standard_normal((6, 8)) * 2
    change = size * stream.standard_normal((6, 8))
    if alone:  # all of the change in the element that counts most often, if there is one
        change *= np.arange(48).reshape(6, 8) == x.argmax()
    tolerance = matching(SHIPPED, op)
    assert tolerance is not None
    out = INHERITED[op](x)
    moved = INHERITED[op](x + change) - out
    carried = inherited_bound(tolerance, [(x.shape, norm(x), norm(change))], (np.shape(out), norm(out)))
    assert carried is not None
    assert norm(moved) <= carried * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(
    "op",
    [
        "aten.threshold_backward.default", "aten.index.Tensor", "aten.gather.default", "aten.embedding.default",
        "aten.max_pool2d_with_indices.default", "aten.cummax.default", "aten.round.default", "aten.sign.default", "aten.addcmul.default",
        "aten.lerp.Tensor", "aten._prelu_kernel.default", "aten.glu.default", "aten.hardswish.default", "aten.mul.Tensor",
    ],
)  # fmt: skip
def test_norms_give_no_inherited_bound_for_jumps_repetition_or_multiplication(op: str) -> None:
    tolerance = matching(SHIPPED, op)
    assert tolerance is not None
    assert tolerance.judged
    assert inherited_bound(tolerance, [((4, 4), 1.0, 0.1)] * 2, ((4, 4), 1.0)) is None


def test_a_difference_propagates_through_a_product_by_the_norm_of_the_other_factor() -> None:
    stream = np.random.default_rng(0)
    a, b, bias = stream.standard_normal((20, 30)), stream.standard_normal((30, 40)), stream.standard_normal(40)
    da, db, dbias = (1e-3 * stream.standard_normal(x.shape) for x in (a, b, bias))
    out, moved = a @ b + bias, (a + da) @ (b + db) + bias + dbias
    tolerance = matching(SHIPPED, "aten.addmm.default")
    assert tolerance is not None
    given_ = [(x.shape, norm(x), norm(dx)) for x, dx in ((bias, dbias), (a, da), (b, db))]
    carried = inherited_bound(tolerance, given_, (out.shape, norm(out)))
    assert carried is not None
    assert norm(moved - out) <= carried < 100 * norm(moved - out)
    assert inherited_bound(tolerance, given_, (out.shape, norm(out)), ("alpha", 3)) is None
    # operands and summand may all be square: the summand comes first, and exchanging them would bound something else
    square = [((8, 8), 1.0, 5.0), ((8, 8), 10.0, 0.0), ((8, 8), 10.0, 0.0)]
    assert inherited_bound(tolerance, square, ((8, 8), 100.0)) == 5.0


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        ("aten.linalg_svd.default", "float32"),  # signs are free
        ("aten.native_layer_norm.default", "float32"),  # depends on how the deviation compares with the mean
        ("aten.mm.default", "int64"),
        ("aten.upsample_nearest2d.default", "float32"),
    ],
)
def test_without_information_from_norms_there_is_no_bound(op: str, dtype: str) -> None:
    tolerance = matching(SHIPPED, op)
    assert tolerance is not None
    shape = (4, 4)
    assert norm_bound(tolerance, dtype, [(shape, 1.0), (shape, 1.0)], (shape, 1.0)) is None


def test_a_factor_unknown_to_the_norms_removes_the_bound() -> None:
    shape = (4, 4)
    tolerance = matching(SHIPPED, "aten.add.Tensor")
    assert tolerance is not None
    inputs = [(shape, 1.0), (shape, 1.0)]
    assert norm_bound(tolerance, "float32", inputs, (shape, 2.0)) is not None
    assert norm_bound(tolerance, "float32", inputs, (shape, 2.0), ("alpha", 1000)) is None
    assert norm_bound(tolerance, "float32", inputs, (shape, 2.0), (1000.0,)) is None


@given(
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]), scale=st.floats(1e-6, 1e6), size=st.integers(1, 50),
    op=st.sampled_from(["aten.mm.default", "aten.sum.default", "aten.relu.default", "aten.mul.Tensor", "aten.add.Tensor"]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_an_error_bound_grows_with_the_numbers_and_with_the_roundoff(dtype: str, scale: float, size: int, op: str) -> None:
    tolerance = matching(SHIPPED, op)
    assert tolerance is not None
    shape = (size, size)
    count = 1 if op in ("aten.sum.default", "aten.relu.default") else 2
    small, large = (norm_bound(tolerance, dtype, [(shape, s)] * count, (shape, s)) for s in (scale, 2 * scale))
    exact = norm_bound(tolerance, "float64", [(shape, scale)] * count, (shape, scale))
    assert small is not None
    assert large is not None
    assert exact is not None
    assert 0 <= exact < small < large
