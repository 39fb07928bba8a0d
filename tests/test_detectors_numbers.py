"""Detectors of numerical effects of ops and of autocast, on hand-written runs: where they must find something, and where not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor import pipeline, plugins
from auditor.judge import judge, load_rules
from auditor.results import Finding
from auditor.trace.tables import Tables
from tests.builder import LaneBuilder, Tensor, TraceBuilder
from tests.findings import places

SHIPPED = load_rules([pipeline.shipped_rules()], plugins.detectors())

RULES = [
    "overflowing-cast", "rounded-whole-numbers", "precision-loss", "integer-overflow", "integer-division", "half-precision-reduction",
    "backward-under-autocast", "autocast-without-effect", "autocast-left-open", "float16-without-scaler",
]  # fmt: skip

#: Writes the lanes of a run.
Program = Callable[[LaneBuilder], object]


def found(tmp_path: Path, rule: str, killed: bool = False, **programs: Program) -> list[Finding]:
    """The findings of a rule in a run with these lanes; `worker_0` stands for the lane `worker 0`."""
    run = TraceBuilder(tmp_path / "run")
    for name, program in programs.items():
        lane = run.lane(name.replace("_", " "))
        program(lane)
        lane.killed = killed
    with Tables(run.sealed()) as tables:
        return judge([tables], [SHIPPED[rule].rule], plugins.detectors())


def cast(lane: LaneBuilder, source: Tensor, dtype: str, line: int, values: int = 4, **facts: object) -> Tensor:
    """A measured cast; `facts` are its effects on the numbers."""
    out = lane.op("aten._to_copy.default", source, dtype=dtype, line=line)
    measured(lane, "cast", values=values, **facts)
    return out


def measured(lane: LaneBuilder, what: str, **facts: object) -> None:
    """A measurement of the last record."""
    lane.line({"k": "measured", "at": lane.last, "what": what, **facts})


def autocast(lane: LaneBuilder, line: int, what: str = "enter", device: str = "cpu", dtype: str = "bfloat16", enabled: bool = True) -> None:
    """Entering or leaving a region."""
    lane.event("autocast", line, op=what, device=device, dtype=dtype, enabled=enabled)


def backward(lane: LaneBuilder, root: Tensor, line: int, graph: bool = True, dtype: str = "float32") -> None:
    """A backward pass from this tensor."""
    lane.event("backward", line, root=root.number, graph=graph)
    phase, lane.phase = lane.phase, "backward"
    lane.op("aten.mm.default", root, shape=[4, 4], dtype=dtype, line=line)
    lane.phase = phase


# overflowing-cast and rounded-whole-numbers


def test_casts_that_overflow_underflow_or_wrap_are_one_finding_per_line(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.op("aten.randn.default", shape=[4], line=1)
        ids = lane.op("aten.arange.default", shape=[4], dtype="int64", line=1)
        for _ in range(3):
            cast(lane, x, "float16", 2, changed=4, overflowed=2, largest=1e-4)
        cast(lane, x, "float16", 3, changed=4, vanished=4)
        cast(lane, ids, "int32", 4, changed=1)
        cast(lane, x, "float16", 5, changed=4, largest=1e-4)
        cast(lane, x, "float16", 6, changed=4, vanished=3, largest=1e-4)
        cast(lane, ids, "int32", 7, changed=0)

    findings = found(tmp_path, "overflowing-cast", main=program)
    assert places(findings) == [(2, 3), (3, 1), (4, 1)]
    assert findings[0].message == "6 of 12 numbers become infinite in a cast from float32 to float16 [4]"


def test_a_fill_value_that_is_meant_to_be_infinite_is_no_overflow(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        zeros = lane.op("aten.zeros.default", shape=[4], line=1)
        mask = lane.op("aten.masked_fill.Scalar", zeros, numbers=[-3.4028234663852886e38], line=2)
        summed = lane.op("aten.add.Tensor", mask, zeros, line=3)
        cast(lane, summed, "float16", 4, changed=1, overflowed=1)
        whole = lane.op("aten.masked_fill.Scalar", zeros, args=[-1000000000], line=5)
        cast(lane, whole, "float16", 6, changed=1, overflowed=1)
        prices = lane.op("aten.mul.Tensor", zeros, numbers=[1e6], line=7)
        cast(lane, prices, "float16", 8, changed=1, overflowed=1)

    assert places(found(tmp_path, "overflowing-cast", main=program)) == [(8, 1)]


def test_truncated_bits_are_no_overflow(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        ids = lane.op("aten.arange.default", shape=[4], dtype="int64", line=1)
        mixed = lane.op("aten.bitwise_xor.Tensor", ids, ids, dtype="int64", line=2)
        cast(lane, lane.op("aten.mul.Tensor", mixed, args=[31], dtype="int64", line=3), "int32", 4, changed=4)
        short = lane.op("aten.ones.default", shape=[4], dtype="uint8", line=5)
        cast(lane, short, "int8", 6, changed=4)
        mask = lane.op("aten.bitwise_and.Tensor", ids, ids, dtype="bool", line=7)
        cast(lane, lane.op("aten.index.Tensor", ids, mask, dtype="int64", line=8), "int32", 9, changed=4)

    assert places(found(tmp_path, "overflowing-cast", main=program)) == [(9, 1)]


@pytest.mark.parametrize("scaler", [False, True])
def test_a_gradient_scaler_handles_overflow_under_autocast(tmp_path: Path, scaler: bool) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.op("aten.randn.default", shape=[4], line=1)
        autocast(lane, 2, dtype="float16")
        cast(lane, x, "float16", 3, changed=4, overflowed=2)
        autocast(lane, 2, "leave", dtype="float16")
        cast(lane, x, "float16", 4, changed=4, overflowed=2)
        if scaler:
            lane.op("aten._amp_foreach_non_finite_check_and_unscale_.default", x, line=5)

    assert places(found(tmp_path, "overflowing-cast", main=program)) == ([(4, 1)] if scaler else [(3, 1), (4, 1)])


def test_rounded_integers_are_reported_but_not_single_numbers_or_floats(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        ids = lane.op("aten.arange.default", shape=[4], dtype="int64", line=1)
        for _ in range(2):
            cast(lane, ids, "bfloat16", 2, changed=2, largest=1e-3)
        cast(lane, ids, "bfloat16", 3, changed=0)
        cast(lane, lane.op("aten.sum.default", ids, shape=[], dtype="int64"), "float32", 4, values=1, changed=1)
        cast(lane, lane.op("aten.randn.default", shape=[4]), "bfloat16", 5, changed=4, largest=1e-3)

    findings = found(tmp_path, "rounded-whole-numbers", main=program)
    assert places(findings) == [(2, 2)]
    assert findings[0].message == "4 of 8 numbers become other numbers in a cast from int64 to bfloat16 [4]"


def test_no_line_is_reported_by_two_cast_rules(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([4], dtype="float64", line=1)
        cast(lane, x, "float16", 2, changed=4, overflowed=1, largest=1e-4)
        cast(lane, x, "float16", 3, changed=4, vanished=4)
        cast(lane, x, "float16", 4, changed=4, vanished=1, largest=1e-4)

    assert places(found(tmp_path / "a", "overflowing-cast", main=program)) == [(2, 1), (3, 1)]
    assert places(found(tmp_path / "b", "narrowing-cast", main=program)) == [(4, 1)]


# precision-loss


def test_digits_lost_on_the_way_are_reported_where_they_are_lost(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for _ in range(2):
            wide = lane.op("aten.randn.default", shape=[4], dtype="float64", line=1)
            narrow = cast(lane, wide, "float32", 2, changed=4, largest=5e-8, absolute=1e-7)
            lane.op("aten.mul.Tensor", lane.op("aten.relu.default", narrow, line=3), wide, dtype="float64", line=4)
            lane.op("aten._to_copy.default", narrow, dtype="float64", line=5)

    findings = found(tmp_path, "precision-loss", main=program)
    assert places(findings) == [(2, 2)]
    assert findings[0].message == (
        "a computed float64 [4] is rounded to float32 here, by up to 5.0e-08 of its size, and becomes float64 again in "
        "train.py:4 (aten.mul.Tensor)"
    )


def test_digits_that_are_never_used_again_or_never_existed_are_not_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide = lane.op("aten.randn.default", shape=[4], dtype="float64", line=1)
        kept = lane.op("aten._to_copy.default", wide, dtype="float32", line=2)
        mean = lane.op("aten.mean.default", kept, shape=[], line=3)
        lane.op("aten._to_copy.default", mean, shape=[], dtype="float64", line=4)
        exact = cast(lane, wide, "float32", 5, changed=0)
        lane.op("aten._to_copy.default", exact, dtype="float64", line=6)
        outside = lane.op("aten._to_copy.default", lane.external([4], dtype="float64", line=7), dtype="float32", line=8)
        lane.op("aten._to_copy.default", outside, dtype="float64", line=9)
        half = lane.op("aten._to_copy.default", kept, dtype="bfloat16", line=10)
        lane.op("aten._to_copy.default", half, dtype="float32", line=11)
        far = lane.op("aten._to_copy.default", wide, dtype="float32", line=12)
        for _ in range(20):
            far = lane.op("aten.relu.default", far, line=13)
        lane.op("aten._to_copy.default", far, dtype="float64", line=14)
        trained = lane.op("aten.mm.default", lane.op("aten._to_copy.default", wide, dtype="float32", line=15), line=16, node=1)
        lane.op("aten._to_copy.default", trained, dtype="float64", line=17)
        lane.module = "Net"
        inside = lane.op("aten.mm.default", lane.op("aten._to_copy.default", wide, dtype="float32", line=18), line=19)
        lane.module = ""
        lane.op("aten._to_copy.default", inside, dtype="float64", line=20)

    assert found(tmp_path, "precision-loss", main=program) == []


def test_an_unmeasured_cast_is_reported_without_its_error(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide = lane.op("aten.randn.default", shape=[4], dtype="float64", line=1)
        lane.op("aten.sub.Tensor", lane.op("aten._to_copy.default", wide, dtype="float32", line=2), wide, dtype="float64", line=2)

    findings = found(tmp_path, "precision-loss", main=program)
    assert places(findings) == [(2, 1)]
    assert "rounded to float32 here, and becomes" in findings[0].message
    assert "in the same line" in findings[0].message


# integer-overflow


def test_integer_overflows_are_one_finding_per_line(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        image = lane.external([8], dtype="uint8", line=1)
        for _ in range(3):
            lane.op("aten.add.Tensor", image, image, dtype="uint8", line=2)
            measured(lane, "overflow", values=8, changed=3)
        lane.op("aten.mul.Tensor", image, args=[31], shape=[], dtype="int32", line=3)
        measured(lane, "overflow", values=1, changed=1)

    findings = found(tmp_path, "integer-overflow", main=program)
    assert places(findings) == [(2, 3), (3, 1)]
    assert findings[0].message == "aten.add.Tensor in uint8 [8]: 3 of 8 results do not fit and wrap around to other numbers"


def test_hashes_and_random_generators_may_overflow(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        state = lane.external([8], dtype="int32", line=1)
        for line, (before, after) in enumerate([("bitwise_xor.Tensor", None), (None, "__rshift__.Scalar"), (None, "remainder.Scalar")], 2):
            given = lane.op(f"aten.{before}", state, dtype="int32", line=line) if before else state
            product = lane.op("aten.mul.Tensor", given, args=[31], dtype="int32", line=line)
            measured(lane, "overflow", values=8, changed=3)
            if after:
                lane.op(f"aten.{after}", product, dtype="int32", line=line + 10)
        lane.op("aten.mul.Tensor", state, args=[1664525], dtype="int32", line=5)
        measured(lane, "overflow", values=8, changed=3)

    assert found(tmp_path, "integer-overflow", main=program) == []


# integer-division


def divided(lane: LaneBuilder, line: int, digest: int | str | None = None, shape: tuple[int, ...] = ()) -> Tensor:
    """A count divided as an integer."""
    right = lane.op("aten.eq.Tensor", lane.external([50]), dtype="bool", line=line)
    count = lane.op("aten.sum.default", right, shape=shape, dtype="int64", line=line)
    return lane.op("aten.floor_divide.default", count, args=[50], shape=shape, dtype="int64", line=line, digest=digest)


ZERO, ONE = 14374147212387527897, 3439722301264460078


def test_a_count_that_lost_its_fraction_is_one_finding_per_line(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for k in range(3):
            lane.op("aten.mul.Tensor", divided(lane, 1, shape=(4,)), dtype="float32", numbers=[0.5], line=2)
            lane.op("aten._local_scalar_dense.default", divided(lane, 3, ONE if k else ZERO), shape=[], dtype="int", line=4)

    findings = found(tmp_path, "integer-division", main=program)
    assert places(findings) == [(1, 3), (3, 3)]
    assert [f.message.rpartition("and ")[2] for f in findings] == [
        "later ops use it in floating point", "only 0 or 1 is left",
    ]  # fmt: skip


def test_lengths_positions_and_group_counts_may_be_divided_as_integers(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.op("aten._local_scalar_dense.default", divided(lane, 1), shape=[], dtype="int", line=1)
        lane.op("aten._local_scalar_dense.default", divided(lane, 2, ONE), shape=[], dtype="int", line=2)
        lane.op("aten.lt.Tensor", lane.external([4], dtype="int64"), divided(lane, 3, shape=(4,)), dtype="bool", line=3)
        lane.op("aten.div.Tensor", lane.external([4]), divided(lane, 4, shape=(4,)), line=4)
        both = divided(lane, 5, shape=(4,))
        lane.op("aten.lt.Tensor", both, dtype="bool", line=5)
        lane.op("aten._to_copy.default", both, dtype="float32", line=5)
        positions = lane.op("aten.arange.default", shape=[4], dtype="int64", line=6)
        halves = lane.op("aten.floor_divide.default", positions, args=[2], dtype="int64", line=6)
        lane.op("aten._to_copy.default", halves, dtype="float32", line=6)
        divided(lane, 7)
        wide = lane.op("aten.sum.default", lane.external([4]), shape=[], line=8)
        lane.op("aten._to_copy.default", lane.op("aten.floor_divide.default", wide, shape=[], line=8), dtype="float64", line=8)

    assert found(tmp_path, "integer-division", main=program) == []


# half-precision-reduction


def test_a_reduction_that_is_inaccurate_or_infinite_is_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([512], dtype="float16", line=1)
        lane.module = "Norm"
        cases: list[tuple[str, dict[str, object]]] = [
            ("float16", {"largest": 0.02}), ("bfloat16", {"largest": 0.02}), ("bfloat16", {"largest": 0.2}), ("float16", {"overflowed": 1}),
        ]  # fmt: skip
        for line, (dtype, facts) in enumerate(cases, 2):
            for _ in range(2):
                lane.op("aten.sum.default", x, shape=[], dtype=dtype, line=line)
                measured(lane, "reduction", values=1, changed=1, of=512, **facts)

    findings = found(tmp_path, "half-precision-reduction", main=program)
    assert places(findings) == [(2, 2), (4, 2), (5, 2)]
    assert findings[0].message == "aten.sum.default of 512 float16 numbers in Norm is off by up to 2.0%"
    assert findings[2].message.endswith("is infinite although the numbers are finite")


# autocast


def test_a_backward_pass_inside_autocast_is_reported_unless_autocast_is_off(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.phase = "forward"
        for _ in range(3):
            loss = lane.op("aten.mean.default", shape=[], line=1)
            autocast(lane, 2)
            backward(lane, loss, 3)
            autocast(lane, 4, enabled=False)
            backward(lane, loss, 5)
            autocast(lane, 4, "leave", enabled=False)
            backward(lane, loss, 6, graph=False)
            autocast(lane, 2, "leave")
            backward(lane, loss, 7)

    findings = found(tmp_path, "backward-under-autocast", main=program)
    assert places(findings) == [(3, 3)]
    assert "the cpu autocast region of train.py:2, so a float32 product in it would be rounded to bfloat16" in findings[0].message


def test_float32_layer_products_rounded_by_a_backward_pass_are_counted(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for k in range(1, 5, 2):
            lane.phase = "forward"
            autocast(lane, 1)
            autocast(lane, 2, enabled=False)
            wide = lane.op("aten.addmm.default", shape=[4, 4], line=3, node=k)
            autocast(lane, 2, "leave", enabled=False)
            loss = lane.op("aten.mm.default", wide, dtype="bfloat16", line=4, node=k + 1)
            lane.event("backward", 5, root=loss.number, graph=True)
            lane.phase = "backward"
            lane.op("aten.mm.default", loss, dtype="bfloat16", line=5, node=k + 1)
            lane.op("aten.mm.default", loss, dtype="bfloat16", line=5, node=k)
            lane.op("aten.mm.default", loss, dtype="bfloat16", line=5, node=k)
            autocast(lane, 1, "leave")
            lane.step()

    findings = found(tmp_path, "backward-under-autocast", main=program)
    assert places(findings) == [(5, 2)]
    assert findings[0].message.endswith("so 2 of its products for float32 layers are rounded to bfloat16")


@pytest.mark.parametrize("killed", [False, True])
def test_an_autocast_region_that_is_never_left_is_one_finding_in_a_complete_lane(tmp_path: Path, killed: bool) -> None:
    def program(lane: LaneBuilder) -> None:
        loss = lane.op("aten.mean.default", shape=[], line=1)
        autocast(lane, 2)
        autocast(lane, 2, "leave")
        autocast(lane, 3)
        for _ in range(2):
            autocast(lane, 4)
            autocast(lane, 4, "leave")
            backward(lane, loss, 5)

    assert places(found(tmp_path / "a", "autocast-left-open", killed, main=program)) == ([] if killed else [(3, 1)])
    assert places(found(tmp_path / "b", "backward-under-autocast", killed, main=program)) == ([(5, 2)] if killed else [])


def test_an_open_autocast_region_without_training_is_not_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        loss = lane.op("aten.mean.default", shape=[], line=1)
        backward(lane, loss, 1)
        autocast(lane, 2)
        lane.op("aten.mm.default", loss, shape=[4, 4], dtype="bfloat16", line=3)

    assert found(tmp_path, "autocast-left-open", main=program) == []


def test_a_window_of_recorded_steps_reports_no_open_autocast_region(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "run", plan={"script": ["train.py"], "level": "ops", "window": [1, 2]})
    lane = run.lane()
    loss = lane.op("aten.mean.default", shape=[], line=1)
    autocast(lane, 2)
    backward(lane, loss, 3)
    with Tables(run.sealed()) as tables:
        assert judge([tables], [SHIPPED["autocast-left-open"].rule], plugins.detectors()) == []


def test_an_autocast_region_whose_ops_are_not_cast_is_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([4, 4], line=1)
        for _ in range(2):
            autocast(lane, 2, device="cuda", dtype="float16")
            lane.op("aten.addmm.default", x, line=3)
            lane.op("aten.relu.default", x, line=4)
            autocast(lane, 2, "leave", device="cuda", dtype="float16")
        lane.op("aten.addmm.default", x, line=5)

    findings = found(tmp_path, "autocast-without-effect", main=program)
    assert places(findings) == [(2, 2)]
    said = "in this cuda autocast region aten.addmm.default computes in float32 on cpu, and no op computes in float16"
    assert findings[0].message == said


def test_an_autocast_region_for_a_missing_device_is_found(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([4, 4], line=1)
        for _ in range(2):
            autocast(lane, 2, "refused", device="cuda", dtype="float16", enabled=False)
            autocast(lane, 2, device="cuda", dtype="float16", enabled=False)
            lane.op("aten.addmm.default", x, line=3)
            autocast(lane, 2, "leave", device="cuda", dtype="float16", enabled=False)

    (finding,) = found(tmp_path, "autocast-without-effect", main=program)
    assert (finding.line, finding.count) == (2, 2)
    assert "aten.addmm.default computes in float32 on cpu" in finding.message


def test_a_region_with_effect_or_nothing_to_cast_or_disabled_is_not_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([4, 4], line=1)
        autocast(lane, 2)
        lane.op("aten.addmm.default", x, line=3)
        lane.op("aten.addmm.default", x, dtype="bfloat16", line=3)
        autocast(lane, 2, "leave")
        autocast(lane, 4)
        lane.op("aten.relu.default", x, line=5)
        autocast(lane, 6, enabled=False)
        lane.op("aten.mm.default", x, line=7)
        autocast(lane, 6, "leave", enabled=False)
        lane.phase = "optimizer"
        lane.op("aten.mm.default", x, line=8)
        autocast(lane, 4, "leave")

    assert found(tmp_path, "autocast-without-effect", main=program) == []


@pytest.mark.parametrize(
    ("dtype", "scaler", "by_hand", "speaks"),
    [
        pytest.param("float16", False, False, True, id="no scaler"),
        pytest.param("float16", True, False, False, id="a scaler"),
        pytest.param("float16", False, True, False, id="scaled by hand"),
        pytest.param("bfloat16", False, False, False, id="bfloat16"),
    ],
)
def test_float16_gradients_need_a_scaler(tmp_path: Path, dtype: str, scaler: bool, by_hand: bool, speaks: bool) -> None:
    def program(lane: LaneBuilder) -> None:
        for _ in range(3):
            autocast(lane, 1, dtype=dtype)
            loss = lane.op("aten.mm.default", lane.external([4, 4]), dtype=dtype, line=2)
            autocast(lane, 1, "leave", dtype=dtype)
            if by_hand:
                loss = lane.op("aten.mul.Tensor", loss, numbers=[1024.0], line=3)
            backward(lane, loss, 4, dtype=dtype)
            if scaler:
                lane.op("aten._amp_foreach_non_finite_check_and_unscale_.default", loss, line=5)
            lane.step()
            backward(lane, loss, 6)

    findings = found(tmp_path, "float16-without-scaler", main=program)
    assert places(findings) == ([(4, 3)] if speaks else [])


@pytest.mark.parametrize("rule", RULES)
def test_a_run_without_ops_has_no_finding(tmp_path: Path, rule: str) -> None:
    assert found(tmp_path, rule, main=lambda lane: lane, worker_0=lambda lane: lane) == []


@pytest.mark.parametrize("rule", RULES)
def test_unusual_dtypes_and_unknown_inputs_are_skipped(tmp_path: Path, rule: str) -> None:
    def program(lane: LaneBuilder) -> None:
        autocast(lane, 1, "leave")
        autocast(lane, 1)
        for dtype in ("complex64", "float8_e4m3fn", "bool", "quint8"):
            x = lane.external([4], dtype=dtype)
            y = lane.op("aten._to_copy.default", x, None, dtype=dtype)
            measured(lane, "cast", values=4, changed=1)
            lane.op("aten.floor_divide.default", y, dtype=dtype)
        lane.op("aten._to_copy.default", None, dtype="float32", line=2)
        lane.line({"k": "measured", "at": lane.last, "what": "reduction", "values": 0, "changed": 0})
        autocast(lane, 1, "leave")

    assert found(tmp_path, rule, main=program) == []


# non-finite-loss


def losing(lane: LaneBuilder, *, told: bool = True, outside: bool = False) -> None:
    """Two good steps and two with nan: a logarithm gives an infinity, and multiplied by 0 it gives nan.

    A mask of infinities is intended.
    """

    def tell(nans: int, infinities: int, given: bool = False) -> None:
        if told:
            lane.event("nonfinite", nans=nans, infinities=infinities, given=given)

    for step in range(4):
        bad = step > 1
        x = lane.external([3], line=1)
        lane.phase = "forward"
        mask = lane.op("aten.masked_fill.Scalar", x, line=2)
        tell(0, 1)
        weights = lane.op("aten._softmax.default", mask, line=2)
        log = lane.op("aten.log.default", x, line=3, node=4 * step + 1)
        if bad:
            tell(0, 1, outside)
        product = lane.op("aten.mul.Tensor", log, weights, line=4, node=4 * step + 2)
        if bad:
            tell(1, 0, True)
        loss = lane.op("aten.sum.default", product, shape=[], line=5, node=4 * step + 3)
        if bad:
            tell(1, 0, True)
        lane.event("backward", 6, root=loss.number, graph=True)
        lane.step(loss=float("nan") if bad else 0.5)


def test_a_nan_is_traced_back_to_the_op_that_made_the_first_nonfinite_number(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, "non-finite-loss", main=losing)
    assert finding.line == 3
    assert (
        "the loss is nan from step 2 on, in 2 steps: aten.log.default made 1 infinite value from finite inputs here in step 2"
        in finding.message
    )
    assert "from which aten.mul.Tensor made nan in train.py:4" in finding.message


def test_an_external_nonfinite_number_is_reported_as_such(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, "non-finite-loss", main=lambda lane: losing(lane, outside=True))
    assert "aten.log.default got external values that are not finite" in finding.message


def test_without_a_watching_rerun_the_loss_is_reported_at_its_backward_pass(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, "non-finite-loss", main=lambda lane: losing(lane, told=False))
    assert (finding.line, finding.message) == (6, "the loss is nan from step 2 on, in 2 steps")


def test_the_result_of_a_watching_rerun_counts_for_the_judged_run(tmp_path: Path) -> None:
    runs = []
    for name, told in (("a", False), ("b", True)):
        run = TraceBuilder(tmp_path / name)
        losing(run.lane(), told=told)
        runs.append(run.sealed())
    with Tables(runs[0], looked=runs[1]) as tables:
        (finding,) = judge([tables], [SHIPPED["non-finite-loss"].rule], plugins.detectors())
    assert finding.line == 3
