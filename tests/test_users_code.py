"""Findings are about the user's code, in every process."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor import plugins
from auditor.judge import judge
from auditor.results import Finding
from auditor.trace.tables import Tables
from tests.builder import TraceBuilder
from tests.findings import shipped


def judged(rule: str, *runs: TraceBuilder) -> list[Finding]:
    return judge([Tables(run.sealed()) for run in runs], [shipped(rule)], plugins.detectors())


@pytest.mark.parametrize("line", [None, 4])
def test_a_draw_without_a_line_of_the_user_belongs_to_the_launcher(line: int | None, tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    run.lane().draw("python", "random.uniform", "s", line=line)
    assert len(judged("unseeded-python-draw", run)) == (line is not None)


@pytest.mark.parametrize("computes", [False, True])
def test_a_variable_set_for_other_processes_is_not_set_too_late(computes: bool, tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    lane = run.lane()
    lane.setting("environ:OMP_NUM_THREADS", "1", line=3)
    run.lane("rank 0").op("aten.relu.default")
    if computes:
        lane.op("aten.relu.default", line=5)
    assert len(judged("variable-set-too-late", run)) == computes


def test_a_fault_of_each_rank_at_one_line_is_one_finding_that_names_the_ranks(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    for rank in range(2):
        run.lane(f"rank {rank}").setting("torch.backends.cudnn.benchmark", True, line=3)
    (finding,) = judged("cudnn-benchmark", run)
    assert finding.message.endswith(" (in ranks 0 and 1)")


def test_threads_that_take_their_seeds_in_another_order_have_no_varying_seed(tmp_path: Path) -> None:
    found = {}
    for kind, second in (("swapped", (2, 1)), ("other", (2, 3))):
        runs = []
        for k, values in enumerate(((1, 2), second)):
            run = TraceBuilder(tmp_path / f"{kind}{k}")
            for thread, value in enumerate(values):
                run.lane(f"thread {thread}").seed("torch-own", value, line=8)
            runs.append(run)
        found[kind] = len(judged("varying-seed", *runs))
    assert found == {"swapped": 0, "other": 1}


def test_a_seed_drawn_from_a_diverged_stream_is_no_separate_fault(tmp_path: Path) -> None:
    runs = []
    for k in range(2):
        run = TraceBuilder(tmp_path / str(k))
        lane = run.lane()
        lane.seed("torch-cpu", k, line=2)
        lane.draw("torch-cpu", "aten.random_.default", f"state {k}", line=4)
        lane.seed("torch-own", 100 + k, line=4)
        runs.append(run)
    assert [finding.line for finding in judged("varying-seed", *runs)] == [2]
