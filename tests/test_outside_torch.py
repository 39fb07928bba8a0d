"""Code outside torch: what it computed, what it wrote, and the lanes that a difference came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.compare import compare
from auditor.pipeline import diff
from auditor.report.words.reasons import sentence_of
from auditor.results import Divergence
from auditor.trace import CHANGED
from tests.builder import LaneBuilder, Tensor, TraceBuilder, digest_of
from tests.recordings import record


def handed(lane: LaneBuilder, value: str, line: int) -> None:
    lane.event("handed", line, function="torch.Tensor.numpy", digest=digest_of(value), shape=[3])


def came(lane: LaneBuilder, value: str, line: int) -> Tensor:
    """What `torch.from_numpy` created at a line, used in the next one."""
    tensor = lane.external([3], value, line=line + 1)
    lane.event("came", line, function="torch.from_numpy", shape=[3])
    return tensor


def found(a: TraceBuilder, b: TraceBuilder) -> Divergence:
    divergence = compare(a.sealed(), b.sealed()).divergence
    assert divergence is not None
    return divergence


@pytest.mark.parametrize("same", [True, False])
def test_results_of_other_code_on_torchs_tensors_are_computed_outside_torch(same: bool, tmp_path: Path) -> None:
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        lane = run.lane()
        lane.op("aten.randn.default", line=3)
        handed(lane, "x" if same else run.path.name, 4)
        came(lane, run.path.name, 5)
    divergence = found(*runs)
    assert (divergence.kind, divergence.line) == ("outside-torch", 5)
    (given,) = divergence.detail.handed
    assert (given.op, given.line, given.differs) == ("torch.Tensor.numpy", 4, not same)


@pytest.mark.parametrize("differs", [True, False])
def test_data_from_a_worker_originate_there_and_not_outside_torch(differs: bool, tmp_path: Path) -> None:
    """A loader's sampler turns its indices into a list, and the batches of its workers arrive after that."""
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        lane, worker = run.lane(), run.lane("worker 0")
        lane.op("aten.randperm.default", line=3)
        handed(lane, "indices", 4)
        came(lane, run.path.name, 5)
        worker.draw("numpy-own", "numpy.normal", run.path.name if differs else "same", line=9)
        worker.external([3], run.path.name if differs else "same", line=10)
    divergence = found(*runs)
    assert divergence.lane == ("worker 0" if differs else "main")
    assert (divergence.kind == "outside-torch") is not differs


def test_a_list_of_numbers_read_on_the_same_line_was_computed_outside_torch(tmp_path: Path) -> None:
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        lane = run.lane()
        x = lane.op("aten.randn.default", line=3)
        lane.op("aten._local_scalar_dense.default", x, shape=[], dtype="float", device="", line=4)
        lane.external([1], run.path.name, line=4)
    assert found(*runs).kind == "outside-torch"


@pytest.mark.parametrize("how", ["nothing was handed out", "a stream differs", "a file differs", "before the last one came in"])
def test_data_stay_data_if_they_have_another_origin(how: str, tmp_path: Path) -> None:
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        name = run.path.name
        lane = run.lane()
        lane.op("aten.randn.default", line=3)
        if how != "nothing was handed out":
            handed(lane, "x", 4)
        if how == "a stream differs":
            lane.seed("numpy", name, line=2)
            lane.draw("numpy", "rand", name, line=4)
        if how == "a file differs":
            lane.read("data.npy", name, line=4)
        if how == "before the last one came in":
            came(lane, "the same", 5)
            lane.op("aten.randn.default", line=3)
        came(lane, name, 5)
    assert found(*runs).kind in ("data", "draw")


def test_memory_that_changes_without_an_op_is_a_hidden_write(tmp_path: Path) -> None:
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        lane = run.lane()
        lane.op("aten.zeros.default", line=3)
        handed(lane, "zeros", 4)
        if run.path.name == "b":  # the other run was faster
            lane._record(lane.number_of("sig", kind="external", out=[["float32", [3], None, "cpu"]], args=CHANGED), 7, lane._site(5))
        lane.op("aten.sin.default", line=6)
    divergence = found(*runs)
    assert divergence.kind == "hidden-write"
    assert [given.line for given in divergence.detail.handed] == [4]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("where", "told"),
    [("between", True), ("before the maker", False), ("behind", False), ("in the other run", True), ("into another tensor", False)],
)
def test_an_interrupted_op_may_have_written_without_a_record(exact: bool, where: str, told: bool, tmp_path: Path) -> None:
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        lane = run.lane()
        there = run.path.name == ("b" if where == "in the other run" else "a")
        if there and where == "before the maker":
            lane.event("interrupted", 2, op="aten.mul_.Tensor", written=[0])
        x = lane.op("aten.add_.Tensor", line=3)
        other = lane.op("aten.ones.default", line=4)
        if there and where in ("between", "in the other run"):
            lane.event("interrupted", 5, op="aten.add_.Tensor", written=[x.number])
        if there and where == "into another tensor":
            lane.event("interrupted", 5, op="aten.add_.Tensor", written=[other.number])
        lane.op("aten.add_.Tensor", x, line=6, digest=run.path.name, exact=exact)
        if there and where == "behind":
            lane.event("interrupted", 7, op="aten.mul_.Tensor", written=[x.number])
    divergence = found(*runs)
    assert divergence.kind == ("hidden-write" if exact or told else "kernel")
    assert ("interrupted aten.add_.Tensor at train.py:5" in sentence_of(divergence.reasons)) is told


@pytest.mark.parametrize(("exact", "kind"), [(True, "hidden-write"), (False, "kernel")])
def test_an_op_that_cannot_differ_by_itself_is_never_blamed(exact: bool, kind: str, tmp_path: Path) -> None:
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        lane = run.lane()
        x = lane.op("aten.mm.default", line=3)
        lane.op("aten.cat.default", x, digest=run.path.name, line=4, exact=exact)
    divergence = found(*runs)
    assert (divergence.kind, divergence.line) == (kind, 4)


def test_an_op_with_different_inputs_from_another_lane_has_its_origin_there(tmp_path: Path) -> None:
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        main, thread = run.lane(), run.lane("thread 1")
        weights = thread.op("aten.lerp.Scalar", digest="equal", line=20)
        noisy = thread.op("aten.mm.default", weights, digest=run.path.name, line=21)
        main.op("aten.sin.default", weights, line=3)
        main.op("aten.mm.default", noisy, digest=f"of {run.path.name}", line=4)
    divergence = found(*runs)
    assert (divergence.lane, divergence.kind, divergence.line) == ("thread 1", "kernel", 21)


def test_an_op_with_equal_inputs_from_another_lane_is_its_own_origin(tmp_path: Path) -> None:
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        main, thread = run.lane(), run.lane("thread 1")
        weights = thread.op("aten.lerp.Scalar", digest="equal", line=20)
        main.op("aten.mm.default", weights, digest=run.path.name, line=4)
        thread.op("aten.mm.default", digest=run.path.name, line=21)  # something else, which did not reach the main lane
    divergence = found(*runs)
    assert (divergence.lane, divergence.kind, divergence.line) == ("main", "kernel", 4)


def test_the_rank_that_diverges_after_the_fewest_collectives_is_the_origin(tmp_path: Path) -> None:
    runs = [TraceBuilder(tmp_path / name) for name in "ab"]
    for run in runs:
        for rank in range(3):
            lane = run.lane(f"rank {rank}")
            if rank == 2:
                lane.op("aten.mm.default", digest=run.path.name, line=9)
            lane.op("c10d.allreduce_.default", digest=0, line=10)
            lane.external([3], f"sum of {run.path.name}", line=11)
    divergence = found(*runs)
    assert (divergence.lane, divergence.line) == ("rank 2", 9)


PROGRAM = """
import numpy as np
import torch

w = torch.ones(4)
v = torch.ones(4)
seen = w.numpy()  # handed out
w.add_(1)
torch.sin(w)  # written by an op since
seen[0] = 7
torch.cos(w)  # written by NumPy since
w.mul_(2)  # not written since, but by itself
torch.tan(w)  # after its own write
torch.exp(v)  # shared with nobody
given = np.ones(4, np.float32)
taken = torch.from_numpy(given)
torch.sin(taken)  # first use
torch.neg(taken)  # second use
given[1] = 5
torch.cos(taken)  # written by NumPy though no op had
"""


@pytest.mark.torch
def test_only_what_numpy_really_writes_is_seen_at_the_next_use(tmp_path: Path) -> None:
    run = record(tmp_path, PROGRAM)

    def met(mark: str) -> list[object]:
        return [row.args for row in run.at(mark, "external")]

    assert [event["line"] for event in run.events("handed")] == [run.line("handed out")]
    assert met("written by NumPy since") == met("written by NumPy though no op had") == [CHANGED]
    for mark in (
        "written by an op since",
        "not written since, but by itself",
        "after its own write",
        "shared with nobody",
        "first use",
        "second use",
    ):
        assert met(mark) == []
    (written,) = run.inputs(run.op("after its own write"))
    assert written.op == "aten.mul_.Tensor"
    (changed,) = run.inputs(run.op("not written since, but by itself"))
    assert changed.kind == "external"


@pytest.mark.parametrize(("exact", "kind"), [(False, "kernel-or-hidden-write"), (True, "hidden-write")])
def test_the_kind_of_kept_runs_is_not_claimed_if_inputs_were_not_digested(exact: bool, kind: str, tmp_path: Path) -> None:
    for name in "ab":
        lane = TraceBuilder(tmp_path / name, role="kept")
        main = lane.lane()
        main.op("aten.mm.default", digest=name, line=4, exact=exact)
        lane.spooled()
    audit = diff(tmp_path / "a", tmp_path / "b")
    assert audit.divergence is not None
    assert audit.divergence.kind == kind
    assert (("`hidden-write`" in sentence_of(audit.divergence.reasons)) and bool(audit.notes)) is not exact
