"""What a divergence reaches: a difference that provably reaches no part of the training is a side difference, anything else is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditor.compare import Comparison, compare
from tests.builder import LaneBuilder, Tensor, TraceBuilder

Aside = Callable[[LaneBuilder, int], object]


def trained(path: Path, aside: Aside, *, parameters: str = "w", steps: int = 3, held: bool = True, **facts: Any) -> TraceBuilder:
    """A run that trains one layer, and after each step does something `aside`; from step 1 on it has its own parameters."""
    run = TraceBuilder(path, **facts)
    lane = run.lane()
    for step in range(steps):
        lane.phase, lane.module = "forward", "Linear"
        out = lane.op("aten.addmm.default", digest=f"out {step}", line=3)
        lane.phase, lane.module = "backward", ""
        lane.op("aten.mm.default", out, digest=f"gradient {step}", line=4)
        lane.phase = "forward"
        facts_of_optimizer = {"parameters": f"{parameters if step else 'w'} {step}", "gradients": step, "state": 0}
        lane.step(loss_digest=step, **(facts_of_optimizer if held else {}))
        aside(lane, step)
    return run


def timed(clock: str, *more: str) -> Aside:
    """Make a tensor from a clock reading, and read a number from it."""

    def do(lane: LaneBuilder, step: int) -> None:
        spent = lane.external([2], f"{clock} {step}", line=7)
        for op in more:
            lane.op(op, spent, line=8)
        middle = lane.op("aten.median.default", spent, shape=[], line=9)
        lane.op("aten._local_scalar_dense.default", middle, shape=[], dtype="float", device="", line=9)

    return do


def compared(a: TraceBuilder, b: TraceBuilder) -> Comparison:
    """Two runs, compared with respect to their training."""
    return compare(a.sealed(), b.sealed(), training=True)


def test_a_value_that_is_only_printed_is_a_side_difference_and_no_divergence(tmp_path: Path) -> None:
    found = compared(trained(tmp_path / "a", timed("ten")), trained(tmp_path / "b", timed("eleven")))
    assert found.divergence is None
    (side,) = found.side
    assert (side.kind, side.line, side.reaches) == ("data", 7, ["number"])


def test_an_occasionally_logged_line_is_a_side_difference(tmp_path: Path) -> None:
    def now_and_then(turn: int) -> Aside:
        return lambda lane, step: lane.op("aten.mul.Tensor", digest=0, line=7) if step == turn else None

    found = compared(trained(tmp_path / "a", now_and_then(0)), trained(tmp_path / "b", now_and_then(1)))
    assert found.divergence is None
    assert [(side.kind, side.reaches) for side in found.side] == [("structure", ["nothing"])]


def test_all_differences_count_unless_only_training_is_compared(tmp_path: Path) -> None:
    found = compare(trained(tmp_path / "a", timed("ten")).sealed(), trained(tmp_path / "b", timed("eleven")).sealed())
    assert found.divergence is not None
    assert not found.side


def test_without_training_printed_output_counts(tmp_path: Path) -> None:
    ours, theirs = (trained(tmp_path / name, timed(name), steps=0) for name in "ab")
    for run, name in ((ours, "a"), (theirs, "b")):
        timed(name)(run.lanes[0], 0)
    assert compared(ours, theirs).divergence is not None


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"parameters": "v"}),
        ({}, {"written": {"model.pt": "f00"}}),
        ({"written": {"model.pt": "f00"}}, {"written": {"model.pt": "ba5"}}),
        ({"written": {"model.pt": None}}, {"written": {"model.pt": None}}),
        ({"written": None}, {"written": None}),
        ({}, {"steps": 4}),
        ({}, {"exit": 1, "error": "ValueError"}),
        ({"plan": {"level": "ops", "window": [0, 1]}}, {}),
    ],
    ids=["parameters", "a file of one run", "another file", "a file that was not read", "unknown files", "steps", "a failure", "a window"],
)
def test_a_side_difference_requires_that_all_of_the_training_agrees(ours: dict[str, Any], theirs: dict[str, Any], tmp_path: Path) -> None:
    found = compared(trained(tmp_path / "a", timed("ten"), **ours), trained(tmp_path / "b", timed("eleven"), **theirs))
    assert found.divergence is not None
    assert not found.side


def test_a_modules_input_is_no_side_difference(tmp_path: Path) -> None:
    """No optimizer holds a module's statistics: an evaluation on other data, or a warm-up, may change them."""

    def evaluated(data: str) -> Aside:
        def do(lane: LaneBuilder, step: int) -> None:
            given = lane.external([2], f"{data} {step}", line=7)
            lane.module = "BatchNorm1d"
            lane.op("aten.native_batch_norm.default", given, line=8)
            lane.module = ""

        return do

    assert compared(trained(tmp_path / "a", evaluated("x")), trained(tmp_path / "b", evaluated("y"))).divergence is not None


@pytest.mark.parametrize("used", [False, True], ids=["a meter of its own", "memory that a module uses"])
def test_writing_in_place_counts_if_the_training_uses_that_memory(used: bool, tmp_path: Path) -> None:
    def added(clock: str) -> Aside:
        meters: list[Tensor] = []

        def do(lane: LaneBuilder, step: int) -> None:
            if not meters:
                meters.append(lane.op("aten.ones.default", line=7))
            lane.module = "Linear" if used else ""
            lane.op("aten.sin.default", meters[0], digest=step, line=8)
            lane.module = ""
            meters[0] = lane.op("aten.add_.Tensor", meters[0], numbers=[len(clock)], digest=f"{clock} {step}", line=9)

        return do

    found = compared(trained(tmp_path / "a", added("ten")), trained(tmp_path / "b", added("eleven")))
    assert (found.divergence is not None) is used


def test_mixing_with_unknown_tensors_is_no_side_difference_without_known_parameters(tmp_path: Path) -> None:
    """A script that updates by hand may do so here, after its last loss."""

    def updated(rate: str) -> Aside:
        def do(lane: LaneBuilder, step: int) -> None:
            weight = lane.op("aten.cos.default", digest="w", line=7)
            factor = lane.external([], f"{rate} {step}", line=8)
            lane.op("aten.sub.Tensor", weight, factor, line=9)

        return do

    ours, theirs = (trained(tmp_path / name, updated(name), held=False) for name in "ab")
    assert compared(ours, theirs).divergence is not None


def test_the_divergence_after_a_side_difference_that_reaches_the_training_is_found(tmp_path: Path) -> None:
    def timed_and_noisy(clock: str, state: str) -> Aside:
        def do(lane: LaneBuilder, step: int) -> None:
            lane.op("aten.neg.default", lane.external([2], f"{clock} {step}", line=7), line=8)
            lane.random("aten.rand.default", state=f"{state} {step}", line=9)

        return do

    ours = trained(tmp_path / "a", timed_and_noisy("ten", "one"), parameters="w")
    theirs = trained(tmp_path / "b", timed_and_noisy("eleven", "two"), parameters="v")
    found = compared(ours, theirs)
    assert found.divergence is not None
    assert (found.divergence.kind, found.divergence.line) == ("draw", 9)
    assert [side.line for side in found.side] == [7]


@pytest.mark.parametrize("used", [True, False])
def test_a_draw_that_reaches_the_training_late_is_preferred_to_a_later_draw(used: bool, tmp_path: Path) -> None:
    def initialized(state: str) -> Aside:
        def do(lane: LaneBuilder, step: int) -> None:
            if step == 0:
                data = lane.random("aten.randn.default", state=f"{state} 1", line=7)
                weights = lane.random("aten.uniform_.default", state=f"{state} 2", line=8)
                lane.module = "Linear"
                lane.op("aten.addmm.default", *([data] if used else []), weights, digest=state, line=9)
                lane.module = ""

        return do

    found = compared(trained(tmp_path / "a", initialized("one")), trained(tmp_path / "b", initialized("two"), parameters="v"))
    assert found.divergence is not None
    assert "parameters" in found.divergence.reaches
    assert [side.reaches for side in found.side] == ([] if used else [["nothing"]])


def test_a_number_that_the_script_reads_may_explain_a_training_difference(tmp_path: Path) -> None:
    def scaled(clock: str) -> Aside:
        def do(lane: LaneBuilder, step: int) -> None:
            timed(clock)(lane, step)
            lane.op("aten.mul.Tensor", digest=f"{clock} {step}", numbers=[len(clock)], line=11)

        return do

    found = compared(trained(tmp_path / "a", scaled("ten")), trained(tmp_path / "b", scaled("eleven"), parameters="v"))
    assert found.divergence is not None
    assert found.divergence.line == 7
    assert "parameters" in found.divergence.reaches
