"""Counts match what users count: a step is an iteration of the training loop, and reported numbers are exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor import plugins
from auditor.compare import compare
from auditor.judge import judge
from auditor.pipeline.rounding import decided_differently, drift_of_losses, drift_of_output, due
from auditor.pipeline.verdict import conclude
from auditor.report.words.findings import places
from auditor.report.words.reasons import text_of
from auditor.results import Finding
from auditor.trace.tables import Tables
from tests.builder import LaneBuilder, TraceBuilder
from tests.findings import shipped


def draws(tmp_path: Path, in_setup: int, in_steps: int, steps: int = 4) -> str:
    run = TraceBuilder(tmp_path / "a")
    lane = run.lane()
    for _ in range(in_setup):
        lane.draw("os-entropy", "secrets.token_bytes", "s", line=3)
    for step in range(steps):
        lane.phase = "forward"
        lane.op("aten.relu.default", line=5)
        for _ in range(2 if step < in_steps else 0):
            lane.draw("os-entropy", "secrets.token_bytes", "s", line=3)
        lane.step()
    (finding,) = judge([Tables(run.sealed())], [shipped("os-entropy-draw")], plugins.detectors())
    assert finding.count == in_setup + 2 * in_steps
    return finding.message


@pytest.mark.parametrize(
    ("in_setup", "in_steps", "often"),
    [(3, 0, ""), (0, 2, " (in 2 of 4 steps)"), (1, 2, " (in 2 of 4 steps)"), (0, 4, " (in each of 4 steps)")],
)
def test_events_before_the_first_step_belong_to_no_step(in_setup: int, in_steps: int, often: str, tmp_path: Path) -> None:
    assert draws(tmp_path, in_setup, in_steps) == f"secrets.token_bytes draws from OS entropy here{often}, which cannot be seeded"


def test_a_place_with_several_findings_is_named_once() -> None:
    here, there = (Finding(rule="r", level="note", message="m", file="train.py", line=line) for line in (3, 4))
    assert places([here, here, here]) == "train.py:3"
    assert places([here, there, here]) == "train.py:3 and train.py:4"


def test_gpu_digests_are_mentioned_only_for_a_run_on_a_gpu(tmp_path: Path) -> None:
    for device in ("cpu", "cuda:0"):
        runs = []
        for name in "ab":
            run = TraceBuilder(tmp_path / device / name)
            lane = run.lane()
            lane.op("aten.mm.default", lane.external(line=1), device=device, line=2)
            runs.append(run.sealed())
        lost = [text_of(one.what) for one in conclude(["train.py"], runs, compare(*runs), None).coverage.lost]
        assert ["digested there" in what for what in lost] == ([True] if device == "cuda:0" else [])
        assert not any("by copying" in what for what in lost)


def trained(folder: Path, losses: list[float], correct: int = 1, dtype: str = "float32", printed: str = "") -> TraceBuilder:
    run = TraceBuilder(folder)
    lane: LaneBuilder = run.lane()
    for loss in losses:
        lane.op("aten.mm.default", lane.external(line=1), digest=repr(loss), dtype=dtype, line=2)
        lane.op("aten.eq.Tensor", digest=correct, dtype="bool", line=3)
        lane.step(loss=loss)
    return run


def test_losses_that_agree_to_half_of_their_digits_differ_only_by_rounding(tmp_path: Path) -> None:
    whole = trained(tmp_path / "a", [2.0, 1.0, 0.001]).sealed()
    rounded = trained(tmp_path / "b", [2.0, 1.0000001, 0.0010003]).sealed()
    grown = trained(tmp_path / "c", [2.0, 1.0000001, 0.01]).sealed()
    failed = trained(tmp_path / "d", [2.0, 1.0, float("nan")]).sealed()
    sizes = [drift.size for run in (whole, rounded, grown, failed) if (drift := drift_of_losses(whole, run)) is not None]

    assert [size > due(whole) for size in sizes] == [False, False, True, True]
    assert not any(decided_differently(whole, run) for run in (whole, rounded, grown))
    assert decided_differently(whole, trained(tmp_path / "e", [2.0, 1.0, 0.001], correct=2).sealed())
    assert decided_differently(whole, trained(tmp_path / "f", [2.0, 1.0]).sealed())


def test_half_of_the_digits_are_fewer_for_a_coarser_dtype(tmp_path: Path) -> None:
    found = [due(trained(tmp_path / dtype, [1.0], dtype=dtype).sealed()) for dtype in ("float64", "float32", "float16", "bfloat16")]
    assert found == sorted(found)
    assert found[0] < 1e-7 < found[1] < 1e-3 < found[2] < 0.1


def test_a_printed_time_that_differs_between_controls_is_no_drift_of_a_result(tmp_path: Path) -> None:
    runs = [trained(tmp_path / str(k), []).sealed() for k in range(4)]
    texts = ["x 0.5 in 1.2 s", "x 0.5 in 1.3 s", "x 0.50000001 in 1.4 s", "x 0.7 in 1.2 s"]
    for run, text in zip(runs, texts, strict=True):
        (run.path / "stdout").write_text(text)
    a, again, rounded, grown = runs

    near, far = drift_of_output(a, again, rounded), drift_of_output(a, again, grown)
    assert near is not None
    assert far is not None
    assert near.size < due(a) < far.size
    assert text_of(far.reason) == "the last number printed that differs is 0.5 and 0.7"
    assert drift_of_output(a, again, again) is None


@pytest.mark.parametrize(
    ("op", "dtype", "decides"),
    [("aten.copy_.default", "uint8", False), ("aten.copy_.default", "int64", True), ("aten.argmax.default", "int64", True),
     ("aten.gt.Scalar", "bool", True), ("aten.mul.Tensor", "float32", False)],
)  # fmt: skip
def test_moving_bytes_in_a_deep_copy_is_no_decision(op: str, dtype: str, decides: bool, tmp_path: Path) -> None:
    runs = []
    for name in ("usual", "rounded"):
        run = TraceBuilder(tmp_path / name)
        run.lane().op(op, digest=name, dtype=dtype, line=3)
        runs.append(run.sealed())
    assert decided_differently(*runs) == decides
