"""Device comparison: which ops correspond, how far results differ, and which op exceeds its error bound first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.compare import align
from auditor.compare.align import COUNTERPARTS, aligned, family
from auditor.compare.arithmetic import compare_devices, divergence_of
from auditor.judge.tolerances import load_tolerances
from auditor.launch import launch
from auditor.pipeline.reruns import Silent
from auditor.plan import Plan
from auditor.report.words import arithmetic
from auditor.report.words.reasons import sentence_of
from auditor.results import DeviceComparison, Divergence
from auditor.tolerance import Tolerance
from auditor.trace.reader import Trace, opened
from tests.builder import LaneBuilder, Tensor, TraceBuilder
from tests.processes import write
from tests.recordings import marks_of

Array = npt.NDArray[Any]

#: Error bounds for hand-written traces; the shipped ones are for real ops.
BOUNDS = [
    Tolerance("products", ("aten.mm", "aten.addmm"), growth=1.0, length="last-of-0", sensitivity="magnitudes", norms="products"),
    Tolerance("exact", ("aten.relu", "aten.add", "aten.copy", "aten.cat", "aten._to_copy"), norms="elementwise"),
    Tolerance("draws", ("aten.normal",), ulps=4.0),
    Tolerance("norms", ("aten.native_layer_norm",), growth=1.0),  # their norms alone tell nothing
    Tolerance("functions", ("aten.exp", "aten.threshold_backward", "aten.native_batch_norm", "aten.cudnn_batch_norm"), ulps=4.0),
]
U = 2.0**-24


# alignment


def keyed(keys: Sequence[tuple[int, int, int]], exactly: Sequence[int] = ()) -> align.Sequence:
    """A lane of ops given by step, phase and purpose; `exactly` distinguishes ops with the same purpose."""
    ordered = sorted(keys, key=lambda key: key[0])
    columns = np.array(ordered, np.int64).reshape(-1, 3)
    loose = columns[:, 2].astype(np.uint64) * np.uint64(4) + columns[:, 1].astype(np.uint64)
    exact = loose * np.uint64(8) + np.array([exactly[k % len(exactly)] if exactly else 0 for k in range(len(loose))], np.uint64)
    return align.Sequence(exact, loose, columns[:, 0], columns[:, 1])


KEYS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 4)), max_size=40)
EXACTLY = st.lists(st.integers(0, 2), min_size=1, max_size=5)


@given(KEYS, KEYS, EXACTLY, EXACTLY)
@settings(max_examples=150, deadline=None)
def test_pairs_are_ordered_symmetric_and_within_one_family(
    ours: list[tuple[int, int, int]], theirs: list[tuple[int, int, int]], x: list[int], y: list[int]
) -> None:
    a, b = keyed(ours, x), keyed(theirs, y)
    i, j = aligned(a, b)
    assert (np.diff(i) > 0).all()
    assert (np.diff(j) > 0).all()
    assert a.loose[i].tolist() == b.loose[j].tolist()
    assert a.step[i].tolist() == b.step[j].tolist()
    back = aligned(b, a)
    assert (back[1].tolist(), back[0].tolist()) == (i.tolist(), j.tolist())


@given(KEYS, st.data())
@settings(max_examples=100, deadline=None)
def test_all_ops_that_an_edit_left_in_place_are_aligned(keys: list[tuple[int, int, int]], data: st.DataObject) -> None:
    original = keyed(keys)
    kept = [k for k in range(len(original)) if data.draw(st.integers(0, 5))]
    copy = align.Sequence(original.exact[kept], original.loose[kept], original.step[kept], original.phase[kept])
    # removing ops leaves a subsequence of each step, so every remaining op has a partner
    assert len(aligned(original, copy)[0]) == len(kept)
    everything = aligned(original, original)
    assert everything[0].tolist() == everything[1].tolist() == list(range(len(original)))


@given(st.lists(st.integers(0, 3), max_size=14), st.lists(st.integers(0, 3), max_size=14))
@settings(max_examples=100, deadline=None)
def test_within_a_window_the_common_subsequence_is_longest(a: list[int], b: list[int]) -> None:
    lengths = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if x == y else max(lengths[i][j + 1], lengths[i + 1][j])
    i_, _ = aligned(keyed([(0, 0, x) for x in a]), keyed([(0, 0, y) for y in b]))
    assert len(i_) == lengths[-1][-1]


def test_a_difference_longer_than_a_window_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align, "WINDOW", 16)
    stream = np.random.default_rng(0)
    common = [(0, 0, int(k)) for k in stream.integers(0, 50, 300)]
    stray = [(0, 0, 99)] * 40
    i, j = aligned(keyed(common), keyed([*common[:100], *stray, *common[100:]]))
    assert len(i) > 250
    assert (j[-100:] - i[-100:] == 40).all()


def test_counterparts_share_a_family_and_other_ops_have_their_own() -> None:
    names = [name for row in COUNTERPARTS for name in row]
    assert len(names) == len(set(names))
    assert family("aten.cudnn_batch_norm.default") == family("aten.native_batch_norm.default")
    assert family("aten.cudnn_batch_norm_backward.default") != family("aten.cudnn_batch_norm.default")
    assert family("aten.add.Tensor") != family("aten.add.Scalar")


# programs


class Device:
    """Writes a lane as a device would compute it: every result with a small error from the device's own noise."""

    def __init__(self, lane: LaneBuilder, seed: int, noise: float = 1.0) -> None:
        self.lane = lane
        self.noise = noise
        self.stream = np.random.default_rng(seed)

    def given(self, values: Array, line: int = 1, **how: Any) -> tuple[Tensor, Array]:
        """An external tensor."""
        tensor = self.lane.external(values.shape, repr(values.tobytes()), line=line, **how)
        self.lane.sketched(values)
        return tensor, values

    def rounded(self, values: Array, wrong: float = 0.0) -> Array:
        """Values as rounded on this device."""
        return np.asarray(values * (1 + self.noise * U * self.stream.uniform(-1, 1, values.shape)) * (1 + wrong))

    def does(
        self, op: str, exact: Array, *inputs: Tensor, wrong: float = 0.0, line: int = 1, shape: Sequence[int] | None = None, **how: Any
    ) -> tuple[Tensor, Array]:
        """One op whose exact result would be this."""
        values = self.rounded(exact, wrong)
        tensor = self.lane.op(op, *inputs, shape=shape or values.shape, digest=repr(values.tobytes()), line=line, **how)
        self.lane.sketched(values)
        return tensor, values


def matrices(seed: int, many: int, size: int = 64) -> list[Array]:
    """Matrices that roughly preserve norms."""
    stream = np.random.default_rng(seed)
    return [stream.standard_normal((size, size)) / size**0.5 for _ in range(many)]


def deep(wrong: float = 0.0, at: int = 30, layers: int = 50) -> Callable[[Device], None]:
    """A deep network; the second device's product in layer `at` is wrong."""

    def program(device: Device) -> None:
        x, values = device.given(np.random.default_rng(7).standard_normal((32, 64)))
        for k, matrix in enumerate(matrices(1, layers)):
            w, weights = device.given(matrix * 1.4, line=k + 2)
            device.lane.phase = "forward"
            x, values = device.does("aten.mm.default", values @ weights, x, w, wrong=wrong if k == at else 0.0, line=k + 2)
            x, values = device.does("aten.relu.default", np.maximum(values, 0), x, line=k + 2)

    return program


def run_of(path: Path, device: str, program: Callable[[Device], None], seed: int, noise: float = 1.0, **facts: Any) -> Trace:
    """A run of one lane on a device."""
    run = TraceBuilder(path, plan={"device": device}, **facts)
    program(Device(run.lane(), seed, noise))
    return run.sealed()


def compared(
    path: Path, ours: Callable[[Device], None], theirs: Callable[[Device], None], noise: float = 1.0, **facts: Any
) -> tuple[DeviceComparison, Divergence | None]:
    """The divergence of two devices; it is the same with the devices exchanged."""
    a, b = run_of(path / "a", "cpu", ours, 1, noise), run_of(path / "b", "cuda", theirs, 2, noise, **facts)
    found, mirrored = compare_devices(a, b, BOUNDS), compare_devices(b, a, BOUNDS)
    one, other = divergence_of(found), divergence_of(mirrored)
    assert (one and (one.kind, family(one.op), one.line)) == (other and (other.kind, family(other.op), other.line))
    assert found.aligned == mirrored.aligned
    assert DeviceComparison.model_validate_json(found.model_dump_json()) == found
    return found, one


def test_two_correct_devices_do_not_diverge_in_a_deep_network(tmp_path: Path) -> None:
    found, divergence = compared(tmp_path, deep(), deep())
    assert (found.devices, found.runs) == (["cpu", "cuda"], ["a", "b"])
    assert divergence is None
    assert (found.aligned, found.unaligned, found.first, found.other) == (100, 0, None, None)
    assert found.most[0].line == 2
    assert 0 < (found.most[0].added or 0) < 1e-6
    assert "the results differ" in arithmetic.comparison(found)
    assert "no op whose introduced error is known exceeds its error bound" in arithmetic.comparison(found)


def test_the_wrong_op_in_a_deep_network_is_named_and_later_ops_inherit_its_error(tmp_path: Path) -> None:
    found, divergence = compared(tmp_path, deep(), deep(wrong=1e-3))
    assert divergence is not None
    assert (divergence.kind, divergence.op, divergence.line, divergence.phase) == ("arithmetic", "aten.mm.default", 32, "forward")
    assert found.first is not None
    assert (found.first.shape, found.first.dtype, found.first.index) == ([32, 64], "float32", divergence.index)
    assert 5e-4 < (found.first.added or 0) < 2e-3
    assert [error.line for error in found.most if (error.excess or 0) > 1] == [32]
    assert "cpu and cuda differ here" in sentence_of(divergence.reasons)
    assert "train.py:32" in arithmetic.comparison(found)


def test_byte_equal_results_are_reported_as_identical(tmp_path: Path) -> None:
    found, divergence = compared(tmp_path, deep(), deep(), noise=0.0)
    assert divergence is None
    assert {point.drift for point in found.curve} == {0.0}
    assert "the same, byte for byte" in arithmetic.comparison(found)


def test_a_curve_of_many_ops_keeps_its_peaks(tmp_path: Path) -> None:
    def program(size: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.ones(32))
            for k in range(1200):
                device.does("aten.exp.default", values, x, wrong=size if k == 717 else 0.0, line=k)

        return ops

    found, _ = compared(tmp_path, program(0.0), program(0.25))
    assert 200 < len(found.curve) <= 400
    peak = max(found.curve, key=lambda point: point.drift)
    assert (peak.index, peak.phase, peak.step) == (718, "setup", 0)
    assert 0.1 < peak.drift < 0.4
    assert [point.index for point in found.curve] == sorted(point.index for point in found.curve)


def test_error_amplified_by_a_chaotic_program_is_inherited(tmp_path: Path) -> None:
    matrix = matrices(3, 1)[0] * 3

    def program(device: Device) -> None:
        x, values = device.given(np.random.default_rng(7).standard_normal((32, 64)))
        w, _ = device.given(matrix)
        for _ in range(30):
            x, values = device.does("aten.mm.default", values @ matrix, x, w, line=3)
            x, values = device.does("aten.sin.default", np.sin(values), x, line=4)

    found, divergence = compared(tmp_path, program, program)
    assert divergence is None
    assert found.curve[-1].drift > 1e-2
    assert "inherited error, which the model amplifies" in arithmetic.comparison(found)
    assert "aten.sin.default" in found.unmeasured


def test_rounding_of_narrow_results_remains_and_is_not_reported_as_amplified(tmp_path: Path) -> None:
    def program(device: Device) -> None:
        x, values = device.given(np.random.default_rng(7).standard_normal((32, 64)))
        for k in range(40):
            device.noise = 2.0**16 if 10 < k < 30 else 1.0
            x, values = device.does("aten._to_copy.default", values, x, dtype="bfloat16" if 10 < k < 30 else "float32")

    found, divergence = compared(tmp_path, program, program)
    assert divergence is None
    assert found.curve[-1].drift > 1e-3 > found.curve[0].drift
    assert "enlarges" not in arithmetic.comparison(found)


# how an op's own error is known


def test_a_shadow_is_trusted_for_the_run_that_it_was_made_in(tmp_path: Path) -> None:
    def program(excess: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.random.default_rng(7).standard_normal((32, 64)))
            for k in range(20):
                x, values = device.does("aten.tan.default", np.tan(values), x, line=k + 1)
                device.lane.shadowed(excess=excess if k == 12 else 0.4, error=3e-4 if k == 12 else 1e-7, norm=2.0, ulps=10.0)

        return ops

    found, divergence = compared(tmp_path, program(0.5), program(9.0))
    assert divergence is not None
    assert (divergence.kind, divergence.line) == ("arithmetic", 13)
    assert found.first is not None
    assert (found.first.run, found.first.excess, found.first.ulps) == ("b", 9.0, 10.0)
    assert found.first.added == pytest.approx(1.5e-4)
    assert "cuda is off here" in sentence_of(divergence.reasons)
    assert "9 times its error bound" in sentence_of(divergence.reasons)
    assert found.unmeasured == {}
    assert [(error.line, error.times) for error in found.most][:1] == [(13, 1)]


def test_an_op_that_is_equally_wrong_on_both_devices_is_no_divergence(tmp_path: Path) -> None:
    def program(device: Device) -> None:
        x, values = device.given(np.ones(64))
        device.lane.op("aten.exp.default", x, digest="the same", line=2)
        device.lane.sketched(values)
        device.lane.shadowed(excess=40.0)

    found, divergence = compared(tmp_path, program, program)
    assert divergence is None
    assert found.most[0].excess == 40.0


@pytest.mark.parametrize("op", ["aten.exp.default", "aten.native_layer_norm.default"])
def test_results_that_differ_for_equal_inputs_prove_a_fault_that_float64_shares(tmp_path: Path, op: str) -> None:
    def program(wrong: float, error: float | None) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.random.default_rng(7).standard_normal((32, 64)))
            device.does(op, np.exp(values), x, wrong=wrong, line=2)
            if error is not None:
                device.lane.shadowed(excess=0.9, error=error, norm=float(np.linalg.norm(np.exp(values))))

        return ops

    found, divergence = compared(tmp_path / "with", program(0.0, 1e-5), program(4e-3, 1e-5))
    assert divergence is not None
    assert (divergence.kind, divergence.op, divergence.line) == ("arithmetic", op, 2)
    assert "cpu and cuda differ here" in sentence_of(divergence.reasons)
    assert found.unmeasured == {}
    # as far apart as both shadows say that they may be
    assert compared(tmp_path / "due", program(0.0, 1e-5), program(2 * U, 1e-5))[1] is None
    if op == "aten.native_layer_norm.default":
        assert compared(tmp_path / "measured", program(0.0, 1.0), program(4e-3, 1.0))[1] is None
        assert compared(tmp_path / "without", program(0.0, None), program(4e-3, None))[0].unmeasured == {op: 1}


@pytest.mark.parametrize("shadowed", [False, True])
def test_chaos_after_differing_inputs_convicts_no_op_with_or_without_a_shadow(tmp_path: Path, shadowed: bool) -> None:
    def program(device: Device) -> None:
        x, values = device.given(np.random.default_rng(7).uniform(0.2, 0.8, (32, 64)))
        for k in range(80):
            x, values = device.does("aten.exp.default", 3.9 * values * (1 - values), x, line=k)
            if shadowed:
                device.lane.shadowed(excess=0.9, error=1e-6, norm=20.0)

    found, divergence = compared(tmp_path, program, program)
    assert divergence is None
    assert found.curve[-1].drift > 1e-3 > found.curve[0].drift


def test_an_op_without_a_rule_or_shadow_is_counted_and_not_judged(tmp_path: Path) -> None:
    def program(wrong: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.ones(64))
            device.does("own.kernel.default", values, x, wrong=wrong)
            device.does("aten.exp.default", values, x, wrong=wrong, numbers=[wrong])

        return ops

    found, divergence = compared(tmp_path, program(0.0), program(0.5))
    assert divergence is None
    assert found.unmeasured == {"own.kernel.default": 1, "aten.exp.default": 1}
    assert "for 2 ops that differ, the error that they introduce is not known" in arithmetic.comparison(found)


def test_a_discontinuous_op_is_not_judged_if_its_inputs_differ(tmp_path: Path) -> None:
    def program(flipped: int) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.random.default_rng(7).standard_normal((32, 64)))
            x, values = device.does("aten.exp.default", values, x)
            mask = np.ones(values.size)
            mask[:flipped] = 0
            device.does("aten.threshold_backward.default", values * mask.reshape(values.shape), x, x, line=4)

        return ops

    found, divergence = compared(tmp_path, program(0), program(3))
    assert divergence is None
    assert found.unmeasured == {"aten.threshold_backward.default": 1}


@pytest.mark.parametrize("written", ["a part", "all of it"])
def test_partly_written_memory_is_only_as_equal_as_the_rest_of_it(tmp_path: Path, written: str) -> None:
    def program(scale: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.ones((8, 8)))
            memory, _ = device.does("aten.exp.default", values, x, line=2)
            device.lane.phase = "forward"
            # a view of it is written with equal values; then all of it is used
            shape = [4, 8] if written == "a part" else [8, 8]
            memory = device.lane.op("aten.fill_.Scalar", memory, shape=shape, digest="equal", line=3)
            device.lane.sketched(np.ones(shape))
            device.does("aten.exp.default", values * scale, memory, line=4)

        return ops

    found, divergence = compared(tmp_path, program(1.0), program(1.001))
    if written == "a part":
        assert divergence is None
        assert found.unmeasured == {"aten.exp.default": 1}
    else:
        assert divergence is not None
        assert divergence.line == 4


def test_memory_viewed_differently_by_the_runs_is_unknown(tmp_path: Path) -> None:
    def program(first: int, wrong: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.random.default_rng(7).standard_normal((32, 64)))
            device.lane.op("aten.slice.Tensor", x, shape=[8, 64], args=[0, first, first + 8], digest=0, line=2)
            device.does("aten.exp.default", values[:8], x, wrong=wrong, line=3)

        return ops

    assert compared(tmp_path / "other", program(0, 0.0), program(8, 1e-2))[1] is None
    same = compared(tmp_path / "same", program(0, 0.0), program(0, 1e-2))[1]
    assert same is not None
    assert (same.kind, same.line) == ("arithmetic", 3)


def test_a_view_that_repeats_elements_increases_the_norm_of_the_input(tmp_path: Path) -> None:
    def program(wrong: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            bias, values = device.given(np.full((1, 64), 1.0))
            device.lane.op("aten.expand.default", bias, shape=[4096, 64], args=[[4096, 64]], digest=0, line=2)
            w, weights = device.given(matrices(1, 1)[0])
            wide = np.repeat(values, 4096, 0)
            device.does("aten.mm.default", wide @ weights, bias, w, wrong=wrong, line=3)

        return ops

    # off by a few units in the last place everywhere: nothing for 4096 rows, 20 times the bound for one row
    assert compared(tmp_path / "due", program(0.0), program(3 * U))[1] is None
    assert compared(tmp_path / "more", program(0.0), program(1e-2))[1] is not None


# several results


def test_each_of_hundreds_of_results_of_an_op_is_judged_by_itself(tmp_path: Path) -> None:
    def program(wrong: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.random.default_rng(3).standard_normal(64))
            results = [device.rounded(values * k) for k in range(1, 301)]
            results[150] = results[150] * (1 + wrong)
            device.lane.op(
                "aten.exp.default", x, digest=repr(results[0].tobytes()), more=[repr(one.tobytes()) for one in results[1:]], line=5
            )
            device.lane.sketched(*results)

        return ops

    found, divergence = compared(tmp_path / "off", program(0.0), program(1e-3))
    assert divergence is not None
    assert divergence.line == 5
    assert 1e-5 < (found.first.drift or 0 if found.first else 0) < 1e-3  # of all three hundred together
    assert compared(tmp_path / "due", program(0.0), program(0.0))[1] is None


def test_a_counterpart_is_judged_by_its_first_result_and_extra_ops_are_unmatched(tmp_path: Path) -> None:
    def program(op: str, extra: int, wrong: float = 0.0) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.random.default_rng(3).standard_normal((16, 4)))
            device.lane.phase = "forward"
            out, values = device.rounded(values, wrong), values
            device.lane.op(op, x, digest=repr(out.tobytes()), more=["of its own"] * extra, line=2)
            device.lane.sketched(out, *[np.full(4, extra)] * extra)
            for _ in range(extra):
                device.lane.op(f"aten.workspace_{extra}.default", shape=[extra], line=2)

        return ops

    found, divergence = compared(
        tmp_path / "due", program("aten.native_batch_norm.default", 2), program("aten.cudnn_batch_norm.default", 3)
    )
    assert divergence is None
    assert (found.aligned, found.unaligned) == (1, 5)
    assert "5 ran on one side only" in arithmetic.comparison(found)
    more = compared(tmp_path / "more", program("aten.native_batch_norm.default", 2), program("aten.cudnn_batch_norm.default", 3, 1e-3))[1]
    assert more is not None
    assert (more.kind, more.line) == ("arithmetic", 2)


# not finite


@pytest.mark.parametrize(("inputs_differ", "near", "said"), [(False, 1.0, True), (True, 1.0, True), (True, 3e38, False)])
def test_a_nonfinite_result_in_one_run_is_an_error_unless_it_may_be_an_overflow(
    tmp_path: Path, inputs_differ: bool, near: float, said: bool
) -> None:
    def program(value: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.ones(64))
            if inputs_differ:
                x, values = device.does("aten.exp.default", values, x)
            result = values * near
            result[5] = value if value != 1.0 else near
            device.lane.op("aten.relu.default", x, digest=repr(result.tobytes()), line=7)
            device.lane.sketched(result)

        return ops

    found, divergence = compared(tmp_path, program(1.0), program(np.inf))
    assert (divergence is not None) == said
    if divergence is not None:
        assert divergence.line == 7
        assert "not finite" in sentence_of(divergence.reasons)
    else:
        assert found.unmeasured == {"aten.relu.default": 1}


def test_results_that_are_nonfinite_in_both_runs_are_reported_and_not_judged(tmp_path: Path) -> None:
    def program(device: Device) -> None:
        x, values = device.given(np.ones(64))
        for k in range(5):
            x, values = device.does("aten.exp.default", values, x, line=k + 1)
            if k >= 2:
                values[0] = np.nan
            device.lane.event("backward", 9, root=device.lane.number, graph=True)
            device.lane.step(loss=1.0)

    found, divergence = compared(tmp_path, program, program)
    assert divergence is None
    assert "losses are not finite" in arithmetic.comparison(found)


# divergences other than arithmetic


def test_other_input_data_is_a_data_divergence_and_rounding_in_unseen_code_is_not(tmp_path: Path) -> None:
    def program(seed: int, off: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            values = np.random.default_rng(seed).standard_normal((8, 8)) * (1 + off)
            x, values = device.given(values, line=6)
            device.does("aten.relu.default", np.maximum(values, 0), x, line=7)

        return ops

    found, divergence = compared(tmp_path / "other", program(1, 0.0), program(2, 0.0))
    assert divergence is not None
    assert (divergence.kind, divergence.line) == ("data", 6)
    assert "not an arithmetic difference" in arithmetic.comparison(found)
    assert compared(tmp_path / "rounded", program(1, 0.0), program(1, 2e-7))[1] is None


def test_a_random_op_is_judged_if_its_generator_was_in_the_same_state(tmp_path: Path) -> None:
    def program(state: str, wrong: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            device.lane.draw("torch-cpu", "aten.normal_.default", state, line=3)
            device.does("aten.normal_.default", np.random.default_rng(len(state)).standard_normal(64), wrong=wrong, line=3)

        return ops

    other = compared(tmp_path / "state", program("seeded", 0.0), program("otherwise", 0.0))[1]
    assert other is not None
    assert (other.kind, other.line) == ("draw", 3)
    assert compared(tmp_path / "due", program("seeded", 0.0), program("seeded", 1e-7))[1] is None
    more = compared(tmp_path / "more", program("seeded", 0.0), program("seeded", 1e-3))[1]
    assert more is not None
    assert (more.kind, more.line) == ("arithmetic", 3)


def test_another_branch_is_structure_but_another_implementation_is_not(tmp_path: Path) -> None:
    def program(op: str, line: int) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.ones(64))
            device.lane.phase = "forward"
            for k in range(50):
                device.does(op, values, x, line=line + k % 5)
            device.does("aten.exp.default", values, x, line=90)

        return ops

    runs = (
        run_of(tmp_path / "a", "cpu", program("aten.relu.default", 10), 1),
        run_of(tmp_path / "b", "cuda", program("aten.tan.default", 20), 2),
    )
    for (a, b), line, device in ((runs, 10, "cpu"), (runs[::-1], 20, "cuda")):
        found = compare_devices(a, b, BOUNDS)
        divergence = divergence_of(found)
        assert divergence is not None
        assert (divergence.kind, divergence.line, found.unaligned) == ("structure", line, 100)
        assert f"50 consecutive ops from here on ran on {device} only" in arithmetic.comparison(found)
    assert compared(tmp_path / "kernels", program("aten.relu.default", 10), program("aten.tan.default", 10))[1] is None


def test_a_run_that_ended_early_is_compared_up_to_its_end(tmp_path: Path) -> None:
    def program(steps: int, wrong: float = 0.0) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            x, values = device.given(np.ones(64))
            for k in range(steps):
                device.does("aten.exp.default", values, x, wrong=wrong if k == 1 else 0.0, line=2)
                device.lane.step()

        return ops

    def longer(device: Device) -> None:
        x, values = device.given(np.ones(64))
        device.does("aten.exp.default", values, x, line=2)
        device.lane.step()
        for _ in range(60):
            device.does("aten.exp.default", values, x, line=7)

    a, b = run_of(tmp_path / "a", "cpu", program(9), 1), run_of(tmp_path / "b", "cuda", program(4), 2, exit=1, error="MemoryError")
    found = compare_devices(a, b, BOUNDS)
    divergence = divergence_of(found)
    assert divergence is not None
    assert (divergence.kind, divergence.step, found.aligned, found.unaligned) == ("failed", 4, 4, 5)
    assert "cuda ended in step 4 with MemoryError" in sentence_of(divergence.reasons)
    ended = run_of(tmp_path / "long", "cpu", longer, 1), run_of(tmp_path / "short", "cuda", program(1), 2, exit=1, error="MemoryError")
    # in the step in which one run failed the other continues for long: that is not a branch
    failed = divergence_of(compare_devices(*ended, BOUNDS))
    assert failed is not None
    assert (failed.kind, failed.line) == ("failed", 7)
    c = run_of(tmp_path / "c", "cuda", program(4, 0.5), 2)
    before = divergence_of(compare_devices(a, c, BOUNDS))
    assert before is not None
    assert (before.kind, before.step) == ("arithmetic", 1)


def test_a_lane_of_only_one_run_is_counted_and_runs_may_share_no_op(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    deep(layers=2)(Device(run.lane(), 1))
    deep(layers=3)(Device(run.lane("thread 1"), 1))
    a, b = run.sealed(), run_of(tmp_path / "b", "cuda", deep(layers=2), 2)
    found = compare_devices(a, b, BOUNDS)
    assert (found.aligned, found.unaligned) == (4, 6)
    assert divergence_of(found) is None
    empty = TraceBuilder(tmp_path / "c")
    empty.lane()
    none = compare_devices(a, empty.sealed(), BOUNDS)
    assert arithmetic.comparison(none) == "the two runs have no op in common"
    assert divergence_of(none) is None


def test_the_final_error_is_that_of_the_parameters_after_the_last_step(tmp_path: Path) -> None:
    def program(off: float) -> Callable[[Device], None]:
        def ops(device: Device) -> None:
            parameter, values = device.does("aten.exp.default", np.ones(64), line=1)
            written = device.lane.number
            for k in range(3):
                device.lane.phase = "forward"
                device.does("aten.sum.default", values.sum().reshape(1), parameter, line=2)
                device.lane.event("backward", 3, root=device.lane.number, graph=True)
                device.lane.phase = "optimizer"
                # the moments are written too, and are not parameters
                device.does("aten.mul_.Tensor", values * (1 + 7 * off), device.lane.op("aten.empty.default", shape=[64], digest=0), line=4)
                parameter, values = device.does("aten.add_.Tensor", np.full(64, 1 + off * (k + 1)), parameter, line=4)
                device.lane.event("optimizer", None, number=0, name="SGD", leaves=["w"], written=[written])
                device.lane.step()

        return ops

    found, _ = compared(tmp_path, program(0.0), program(1e-3))
    assert found.end == pytest.approx(3e-3, rel=0.5)
    assert "the loss differs by" in arithmetic.comparison(found)
    assert "the parameters differ by" in arithmetic.comparison(found)


# real runs

SCRIPT = """
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
step = 0


def product(a, b):
    out = torch.bmm(a.unsqueeze(0), b.unsqueeze(0)).squeeze(0)
    return out * WRONG if step == 2 and tuple(out.shape) == (16, 10) else out


if WRONG and torch.backends.cpu.get_cpu_capability() == "DEFAULT":
    library = torch.library.Library("aten", "IMPL")
    library.impl("mm", product, "CPU")

net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 32), nn.LayerNorm(32), nn.GELU())
head = nn.Linear(32, 10, bias=False)
optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=1e-3)
for step in range(4):
    x, y = torch.rand(16, 1, 8, 8), torch.randint(0, 10, (16,))
    optimizer.zero_grad()
    hidden = net(x)
    out = head(hidden)  # the product
    nn.functional.cross_entropy(out, y).backward()
    optimizer.step()
"""


@pytest.fixture(scope="module")
def shipped() -> list[Tolerance]:
    """The shipped tolerances."""
    return load_tolerances(Path(__file__).parent.parent / "rules")


def recorded(folder: Path, capability: str, wrong: float) -> Trace:
    """A run of the script with an instruction set, with sketches."""
    write(folder, train=SCRIPT.replace("WRONG", str(wrong)))
    plan = Plan(("train.py",), cwd=str(folder)).with_sketches()
    plan = plan.with_device(f"cpu:{capability}", (("ATEN_CPU_CAPABILITY", capability),), {})
    launch(plan, folder / capability, capability, "device", Silent(), quiet=True)
    trace = opened(folder / capability)
    assert trace.meta["exit"] == 0, (folder / capability / "stderr").read_text()
    return trace


@pytest.mark.torch
def test_only_a_wrong_kernel_stands_out_from_the_rounding_of_two_instruction_sets(tmp_path: Path, shipped: list[Tolerance]) -> None:
    found = compare_devices(recorded(tmp_path, "avx2", 1.001), recorded(tmp_path, "default", 1.001), shipped)
    divergence = divergence_of(found)
    assert divergence is not None, arithmetic.comparison(found)
    assert (divergence.kind, divergence.op, divergence.step, divergence.phase) == ("arithmetic", "aten.mm.default", 2, "forward")
    assert (divergence.file, divergence.line) == ("train.py", marks_of(SCRIPT)["the product"])
    assert "cpu:avx2 and cpu:default differ here" in sentence_of(divergence.reasons)
    # nothing before it and nothing behind it is taken for wrong, though all of it differs
    assert [(error.op, error.line) for error in found.most if (error.excess or 0) > 1] == [(divergence.op, divergence.line)]
    early = [point.drift for point in found.curve if point.index < divergence.index]
    assert 0 < np.median(early) < 1e-4  # gradients that would be zero without rounding consist of rounding errors
    assert (found.unaligned, found.other) == (0, None)
    assert found.end is not None
    assert 0 < found.end < 0.1
