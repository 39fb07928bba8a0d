"""Detectors of dtypes and devices, on hand-written runs: where they must find something, and where they must not."""

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

#: Writes the lanes of a run.
Program = Callable[[LaneBuilder], object]


def found(tmp_path: Path, rule: str, **programs: Program) -> list[Finding]:
    """The findings of a rule in a run with these lanes; `worker_0` stands for the lane `worker 0`."""
    run = TraceBuilder(tmp_path / "run")
    for name, program in programs.items():
        program(run.lane(name.replace("_", " ")))
    with Tables(run.sealed()) as tables:
        return judge([tables], [SHIPPED[rule].rule], plugins.detectors())


def view(lane: LaneBuilder, tensor: Tensor, *shape: int, dtype: str | None = None) -> Tensor:
    """View a tensor's memory in another way; the memory stays that of its record."""
    lane.op("aten.select.int", tensor, shape=shape, dtype=dtype or tensor.dtype, digest=0)
    return Tensor(tensor.number, tensor.digest, shape, dtype or tensor.dtype)


def train(lane: LaneBuilder, loss: Tensor, dtype: str = "float32") -> None:
    """A backward pass through autograd node 1, and an update of parameters of this dtype."""
    lane.phase = "backward"
    lane.op("aten.mse_loss_backward.default", loss, shape=[8], line=90, node=1)
    lane.phase = "optimizer"
    parameter = lane.op("aten.ones.default", shape=[8], dtype=dtype, line=91)
    lane.op("aten.add_.Tensor", parameter, shape=[8], dtype=dtype, line=91)
    lane.op("aten.add_.Tensor", parameter, shape=[], dtype="float64", line=91)  # a step counter
    lane.phase = "forward"


# narrowing-cast


def test_repeated_casts_of_an_external_tensor_are_one_finding(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for _ in range(5):
            x = lane.external([4, 3], dtype="float64", line=1)
            lane.op("aten._to_copy.default", x, dtype="float32", line=2)
        lane.op("aten._to_copy.default", x, dtype="bfloat16", line=1)

    findings = found(tmp_path, "narrowing-cast", main=program)
    assert places(findings) == [(1, 1), (2, 5)]
    assert [f.message for f in findings] == [
        "an external float64 tensor is rounded to bfloat16 [4, 3] here",
        "an external float64 tensor (first seen in train.py:1) is rounded to float32 [4, 3] here",
    ]
    assert findings[0].evidence["op"] == "aten._to_copy.default"


def test_a_batch_collated_from_external_tensors_still_counts_as_external(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        rows = [lane.external([3], dtype="float64", line=1) for _ in range(4)]
        batch = lane.op("aten.stack.default", *rows, shape=[4, 3], dtype="float64", line=2)
        part = lane.op("aten.index.Tensor", batch, shape=[2, 3], dtype="float64", line=3)
        lane.op("aten._to_copy.default", part, dtype="float32", line=4)

    assert places(found(tmp_path, "narrowing-cast", main=program)) == [(4, 1)]


def test_a_copy_narrows_its_source_and_not_its_target(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide = lane.external([3], dtype="float64", line=1)
        narrow = lane.op("aten.zeros.default", shape=[3], line=2)
        lane.op("aten.copy_.default", narrow, wide, line=3)
        other = lane.external([3], line=4)
        lane.op("aten.copy_.default", lane.op("aten.empty_like.default", wide, dtype="float32"), other, line=5)

    assert places(found(tmp_path, "narrowing-cast", main=program)) == [(3, 1)]


def test_casts_of_results_of_numbers_and_of_narrow_tensors_are_not_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide = lane.external([3], dtype="float64", line=1)
        computed = lane.op("aten.sub.Tensor", wide, wide, dtype="float64", line=2)
        lane.op("aten._to_copy.default", computed, dtype="float32", line=3)
        number = lane.external([], dtype="float64", line=4)
        lane.op("aten._to_copy.default", number, dtype="float32", line=5)
        narrow = lane.external([3], line=6)
        lane.op("aten._to_copy.default", narrow, dtype="bfloat16", line=7)
        lane.op("aten._to_copy.default", wide, dtype="int64", line=8)
        lane.op("aten._to_copy.default", wide, dtype="float64", line=9)
        widened = lane.op("aten._to_copy.default", narrow, dtype="float64", line=10)
        lane.op("aten._to_copy.default", widened, dtype="float32", line=11)

    assert found(tmp_path, "narrowing-cast", main=program) == []


def test_workers_that_cast_at_the_same_line_give_one_finding(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.op("aten._to_copy.default", lane.external([3], dtype="float64", line=1), dtype="float32", line=1)

    def empty(lane: LaneBuilder) -> None:
        assert lane

    findings = found(tmp_path, "narrowing-cast", main=empty, worker_0=program, worker_1=program)
    assert places(findings) == [(1, 2)]


def test_the_loss_of_a_narrowing_cast_is_reported_and_a_lossless_cast_is_not(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide = lane.external([4], dtype="float64", line=1)
        facts: list[dict[str, object]] = [
            {"changed": 4, "largest": 5.9e-8}, {"changed": 3, "largest": 1e-8, "vanished": 1}, {"changed": 0},
            {"changed": 4, "largest": 1e-3, "overflowed": 1}, {"changed": 4, "vanished": 4},
        ]  # fmt: skip
        for line, found_out in enumerate(facts, 2):
            lane.op("aten._to_copy.default", wide, dtype="float32", line=line)
            lane.line({"k": "measured", "at": lane.last, "what": "cast", "values": 4, **found_out})
        lane.op("aten._to_copy.default", wide, dtype="float32", line=2)  # the same line again, not measured

    findings = found(tmp_path, "narrowing-cast", main=program)
    assert places(findings) == [(2, 2), (3, 1)]
    assert [f.message.partition("[4] here")[2] for f in findings] == [
        ": 4 of 4 numbers change, by up to 5.9e-08 of their size",
        ": 3 of 4 numbers change, by up to 1.0e-08 of their size; 1 of them become 0",
    ]  # fmt: skip


# mixed-dtype-promotion and float64-leak


def test_mixed_dtypes_are_one_finding_per_line_with_the_resulting_dtype(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide, narrow = lane.external([8], dtype="float64", line=1), lane.external([8], line=1)
        for _ in range(3):
            lane.op("aten.mul.Tensor", narrow, wide, dtype="float64", line=2)
        lane.op("aten.add_.Tensor", narrow, wide, line=3)
        lane.op("aten.eq.Tensor", narrow, wide, dtype="bool", line=4)
        lane.op("aten.cat.default", narrow, narrow, narrow, narrow, wide, shape=[40], dtype="float64", line=5)
        lane.op("aten.add.Tensor", wide, narrow, dtype="float64", line=6)
        lane.op("aten.sub.Tensor", wide, narrow, dtype="float64", line=6)

    findings = found(tmp_path, "mixed-dtype-promotion", main=program)
    assert places(findings) == [(2, 3), (3, 1), (4, 1), (5, 1), (6, 2)]
    assert [f.message.partition(": it ")[2] for f in findings] == [
        "gives float64 [8]", "computes in float64 and rounds into float32 [8]", "compares them in float64", "gives float64 [40]",
        "gives float64 [8]",
    ]  # fmt: skip


def test_ops_without_promotion_are_not_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide, narrow = lane.external([8], dtype="float64", line=1), lane.external([8], line=1)
        lane.op("aten.mul.Tensor", narrow, lane.external([], dtype="float64"), line=2)
        lane.op("aten.mul.Tensor", narrow, lane.external([8], dtype="int64"), line=3)
        lane.op("aten.mul.Tensor", wide, lane.external([8], dtype="int64"), dtype="float64", line=4)
        lane.op("aten.mul.Tensor", wide, wide, dtype="float64", line=5)
        lane.op("aten.mul.Tensor", narrow, narrow, line=6)
        lane.op("aten.mul.Tensor", narrow, None, line=7)
        lane.op("aten.mul.Tensor", narrow, lane.external([8], dtype="bfloat16"), line=8)
        lane.op("aten.native_layer_norm.default", narrow, wide, line=9)
        lane.phase = "backward"
        lane.op("aten.mul.Tensor", narrow, wide, dtype="float64", line=10)

    assert found(tmp_path, "mixed-dtype-promotion", main=program) == []


def test_memory_reinterpreted_as_another_dtype_is_ignored_from_then_on(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide, narrow = lane.external([8], dtype="float64", line=1), lane.external([8], line=1)
        lane.op("aten.add.Tensor", narrow, view(lane, wide, 4), shape=[8], dtype="float64", line=2)
        lane.op("aten.add.Tensor", narrow, view(lane, wide), shape=[8], line=3)
        lane.op("aten.add.Tensor", wide, view(lane, narrow), shape=[8], dtype="float64", line=4)
        other = lane.external([8], line=5)
        lane.op("aten.add.Tensor", lane.external([4], dtype="float64"), view(lane, other, 4, dtype="float64"), dtype="float64", line=6)

    assert places(found(tmp_path, "mixed-dtype-promotion", main=program)) == [(2, 1)]


def test_an_input_of_uncertain_dtype_gives_no_finding(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide = lane.external([8], dtype="float64", line=1)
        lane.op("aten.add.Tensor", wide, Tensor(0, 0, (8,), "float32"), dtype="float64", line=2)  # of another lane, or of none

    assert found(tmp_path, "mixed-dtype-promotion", main=program) == []
    assert found(tmp_path / "again", "float64-leak", main=program) == []


@pytest.mark.parametrize(
    ("parameters", "leaks"),
    [
        pytest.param("float32", True, id="float32 parameters"),
        pytest.param("bfloat16", True, id="bfloat16 parameters"),
        pytest.param("float64", False, id="float64 parameters"),
    ],
)
def test_float64_before_the_loss_is_a_leak_unless_parameters_are_float64(tmp_path: Path, parameters: str, leaks: bool) -> None:
    def program(lane: LaneBuilder) -> None:
        wide, narrow = lane.external([8], dtype="float64", line=1), lane.external([8], line=1)
        lane.phase = "forward"
        for _ in range(2):
            loss = lane.op("aten.mse_loss.default", narrow, wide, shape=[], dtype="float64", line=2, node=1)
            train(lane, loss, parameters)
            lane.op("aten.sub.Tensor", narrow, wide, dtype="float64", line=3)  # a metric: no backward pass goes through it
            lane.step()

    leak = found(tmp_path / "a", "float64-leak", main=program)
    mixed = found(tmp_path / "b", "mixed-dtype-promotion", main=program)
    assert places(leak) == ([(2, 2)] if leaks else [])
    assert places(mixed) == ([(3, 2)] if leaks else [(2, 2), (3, 2)])


@pytest.mark.parametrize(("parameters", "leaks"), [("float32", True), ("float64", False)])
def test_an_extension_op_that_updates_parameters_is_an_update(tmp_path: Path, parameters: str, leaks: bool) -> None:
    def program(lane: LaneBuilder) -> None:
        wide, narrow = lane.external([8], dtype="float64", line=1), lane.external([8], line=1)
        lane.phase = "forward"
        loss = lane.op("aten.mse_loss.default", narrow, wide, shape=[], dtype="float64", line=2, node=1)
        lane.phase = "backward"
        lane.op("aten.mse_loss_backward.default", loss, shape=[8], line=90, node=1)
        lane.phase = "optimizer"
        parameter = lane.op("aten.ones.default", shape=[8], dtype=parameters, line=91)
        lane.op("mylib.fused_adam.default", parameter, shape=[8], dtype=parameters, line=91, schema={"writes": [0, 2]})

    assert places(found(tmp_path, "float64-leak", main=program)) == ([(2, 1)] if leaks else [])


def test_without_an_optimizer_float64_is_no_leak(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        wide, narrow = lane.external([8], dtype="float64", line=1), lane.external([8], line=1)
        lane.phase = "forward"
        lane.op("aten.mse_loss.default", narrow, wide, shape=[], dtype="float64", line=2, node=1)

    assert found(tmp_path, "float64-leak", main=program) == []


# half-running-total


@pytest.mark.parametrize(
    ("dtype", "terms", "speaks"),
    [("bfloat16", 70, True), ("float16", 70, True), ("float32", 70, False), ("float64", 70, False), ("bfloat16", 63, False)],
)
def test_a_half_precision_total_is_found_if_it_has_many_terms(tmp_path: Path, dtype: str, terms: int, speaks: bool) -> None:
    def program(lane: LaneBuilder) -> None:
        total = lane.op("aten.zeros.default", shape=[], dtype=dtype, line=1)
        for k in range(terms):
            term = lane.op("aten.mean.default", shape=[], dtype=dtype, line=2, numbers=[k])
            total = lane.op("aten.add_.Tensor", total, term, dtype=dtype, line=3)

    findings = found(tmp_path, "half-running-total", main=program)
    assert places(findings) == ([(3, terms)] if speaks else [])
    if speaks:
        assert findings[0].message.startswith(f"aten.add_.Tensor adds {terms} terms in a row to a total in {dtype}")


def test_a_total_that_restarts_in_time_is_not_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for k in range(20):
            total = lane.op("aten.zeros.default", shape=[], dtype="bfloat16", line=1, numbers=[k])
            for _ in range(12):
                total = lane.op("aten.add.Tensor", total, None, dtype="bfloat16", line=2)

    assert found(tmp_path, "half-running-total", main=program) == []


def test_a_residual_stream_is_no_total_but_a_sum_over_steps_is(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        carried = lane.op("aten.zeros.default", shape=[4], dtype="bfloat16", line=1)
        for k in range(80):
            stream = lane.op("aten.embedding.default", shape=[4], dtype="bfloat16", line=2, numbers=[k])
            for _ in range(3):
                stream = lane.op("aten.add.Tensor", stream, None, dtype="bfloat16", line=3)
            carried = lane.op("aten.add_.Tensor", carried, stream, dtype="bfloat16", line=4)
            lane.step()
        for _ in range(100):
            stream = lane.op("aten.add.Tensor", stream, None, dtype="bfloat16", line=5)

    assert places(found(tmp_path, "half-running-total", main=program)) == [(4, 80)]


def test_gradients_and_optimizers_may_accumulate_in_half_precision(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        total = lane.op("aten.zeros.default", shape=[], dtype="bfloat16", line=1)
        for phase in ("backward", "optimizer"):
            lane.phase = phase
            for _ in range(80):
                total = lane.op("aten.add_.Tensor", total, None, dtype="bfloat16", line=2)

    assert found(tmp_path, "half-running-total", main=program) == []


# nondeterministic-on-cuda


def test_a_backward_op_is_reported_at_its_forward_line_together_with_that_lines_ops(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([2, 3, 8, 8], line=1)
        for k in range(1, 6, 2):
            lane.phase = "forward"
            y = lane.op("aten.convolution.default", x, args=[[1, 1], [0, 0], [1, 1], False, [0, 0], 1], line=2, node=k)
            lane.op("aten.upsample_bicubic2d.default", y, line=2, node=k + 1)
            lane.phase = "backward"
            lane.op("aten.upsample_bicubic2d_backward.default", y, line=3, node=k + 1)
            lane.op("aten.convolution_backward.default", y, line=3, node=k)
            lane.step()

    findings = found(tmp_path, "nondeterministic-on-cuda", main=program)
    assert places(findings) == [(2, 6)]
    assert findings[0].message == (
        "aten.convolution_backward, aten.upsample_bicubic2d_backward: on CUDA the result differs from run to run; under "
        "torch.use_deterministic_algorithms(True) aten.convolution_backward has a deterministic form (chosen among fewer algorithms) and "
        "aten.upsample_bicubic2d_backward raises an error"
    )
    assert findings[0].evidence["raises"] is True


def test_arguments_and_dtypes_decide_whether_an_op_is_nondeterministic(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([2, 3], line=1)
        lane.op("aten.convolution.default", x, args=[[1], [0], [1], True, [0], 1], line=2)
        lane.op("aten.convolution.default", x, args=[[1], [0], [1], False, [0], 1], line=3)
        for line, (reduce, name) in enumerate([("sum", ""), ("mean", "_"), ("prod", ""), ("amax", ""), ("amin", "_")], 4):
            lane.op(f"aten.scatter_reduce{name}.two", x, args=[0, reduce], line=line)
        for line, args in enumerate([[None, 1, -100], [2, 255], [None, 0, 1], [0, -100]], 9):
            lane.op("aten.nll_loss2d_forward.default", x, args=args, line=line)
        for line, mode in enumerate([2, 1, 0], 13):
            lane.op("aten._embedding_bag_backward.default", x, args=[2, False, mode, False, None], line=line)
        lane.op("aten.cumsum.default", x, args=[0], line=16)
        lane.op("aten.cumsum.default", x, args=[0], dtype="bfloat16", line=17)
        lane.op("aten.cumsum.default", x, args=[0], dtype="complex64", line=18)
        lane.op("aten.cumsum.default", x, args=[0], dtype="int64", line=19)
        lane.op("aten.bincount.default", x, dtype="int64", line=20)
        lane.op("aten.max_pool2d_with_indices_backward.default", x, line=21)

    findings = found(tmp_path, "nondeterministic-on-cuda", main=program)
    assert [f.line for f in findings] == [2, 4, 5, 6, 9, 10, 13, 16, 17, 18]
    assert [f.line for f in findings if not f.evidence["raises"]] == [2, 4, 5]


def test_ops_that_a_setting_makes_deterministic_are_left_out_unlike_ops_that_raise(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, **switches: bool) -> None:
        for name in ("torch.are_deterministic_algorithms_enabled", "torch.backends.cudnn.deterministic"):
            lane.setting(name, False, initial=True)
            if name.rpartition(".")[2] in switches:
                lane.setting(name, True, line=1)
        x = lane.external([2, 3], line=2)
        lane.op("aten.convolution_backward.default", x, line=3)
        lane.op("aten.index_add.default", x, line=4)
        lane.op("aten.histc.default", x, line=5)

    def lines(name: str, **switches: bool) -> list[int | None]:
        return [f.line for f in found(tmp_path / name, "nondeterministic-on-cuda", main=lambda lane: program(lane, **switches))]

    assert lines("none") == [3, 4, 5]
    assert lines("cudnn", deterministic=True) == [4, 5]
    assert lines("all", are_deterministic_algorithms_enabled=True) == [5]


@pytest.mark.parametrize(
    "rule", ["narrowing-cast", "mixed-dtype-promotion", "float64-leak", "half-running-total", "nondeterministic-on-cuda"]
)
def test_a_run_without_ops_has_no_finding(tmp_path: Path, rule: str) -> None:
    assert found(tmp_path, rule, main=lambda lane: lane, worker_0=lambda lane: lane) == []
