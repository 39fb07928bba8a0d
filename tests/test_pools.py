"""Worker pools: which worker gets which task is chance, but the work of a task is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.compare import Comparison, compare
from auditor.compare.pools import tasks_of
from auditor.trace.reader import Trace
from tests.builder import TraceBuilder
from tests.recordings import record

#: Which of two workers does each of four tasks.
Plan = list[int]


def pooled(path: Path, plan: Plan, *, of_worker: bool = False, result: str = "") -> Trace:
    """A run with this distribution of tasks; with `of_worker` a task's result depends on its worker."""
    run = TraceBuilder(path)
    run.lane().op("aten.ones.default", line=1)
    lanes = [run.lane(f"thread {k}") for k in (1, 2)]
    for task, worker in enumerate(plan):
        lane = lanes[worker]
        lane.event("task", name=f"thread 0, {task + 1}")
        made = lane.op("aten.full.default", digest=f"task {task} of {worker if of_worker else 'any'}{result if task == 2 else ''}", line=3)
        lane.op("aten.sum.default", made, line=4)
    return run.sealed()


def compared(path: Path, ours: Plan, theirs: Plan, *, of_worker: bool = False, result: str = "") -> Comparison:
    return compare(pooled(path / "a", ours, of_worker=of_worker), pooled(path / "b", theirs, of_worker=of_worker, result=result))


@pytest.mark.parametrize("theirs", [[0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]])
def test_the_assignment_of_tasks_to_pool_workers_is_no_divergence(theirs: Plan, tmp_path: Path) -> None:
    found = compared(tmp_path, [0, 1, 0, 1], theirs)
    assert found.divergence is None
    assert not found.notes


def test_a_task_whose_result_depends_on_the_worker_diverges(tmp_path: Path) -> None:
    found = compared(tmp_path, [0, 1, 0, 1], [0, 1, 1, 0], of_worker=True).divergence
    assert found is not None
    assert (found.kind, found.line) == ("kernel", 3)


def test_a_task_that_differs_is_found_in_any_worker(tmp_path: Path) -> None:
    found = compared(tmp_path, [0, 1, 0, 1], [1, 1, 1, 1], result="!").divergence
    assert found is not None
    assert (found.kind, found.op, found.line) == ("kernel", "aten.full.default", 3)


PROGRAM = """
import concurrent.futures as futures
import multiprocessing.pool
import time

import torch


def task(k):
    time.sleep(0.01 * (k * 7 % 3))
    return torch.full((3,), float(k)).sum().item()


if __name__ == "__main__":
    with futures.ThreadPoolExecutor(3) as pool:
        assert list(pool.map(task, range(6))) == [3.0 * k for k in range(6)]
    with multiprocessing.pool.ThreadPool(3) as pool:
        assert pool.map(task, range(6), 1) == [3.0 * k for k in range(6)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(task, range(6), 1) == [3.0 * k for k in range(6)]
    with futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(task, range(6))) == [3.0 * k for k in range(6)]
"""


@pytest.mark.torch
def test_tasks_of_the_standard_librarys_pools_are_kept_separate(tmp_path: Path) -> None:
    tasks = tasks_of(record(tmp_path, PROGRAM).trace)
    kinds = [name.split()[1] for name, _ in tasks]
    assert (kinds.count("thread"), kinds.count("job"), kinds.count("call")) == (6, 12, 6)
    ends = [(task.lane, *task.lane.compared[1][[task.first, task.end - 1]].tolist()) for task in tasks.values()]
    ops = {tuple(row.op for row in lane.rows(first, last)) for lane, first, last in ends}
    assert ops == {("aten.full.default", "aten.sum.default", "aten._local_scalar_dense.default")}
