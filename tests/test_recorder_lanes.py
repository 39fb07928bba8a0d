"""Threads and processes: each has its own lane, named by its role, and op numbers that are unique in the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recordings import Recorded, record

pytestmark = pytest.mark.torch

ELSEWHERE = -2


def lane_of(recorded: Recorded, op: str) -> str:
    """Name of the only lane that has this op."""
    found = [name for name in recorded.trace.lanes if any(r.op == f"aten.{op}.default" for r in recorded.rows(name))]
    assert len(found) == 1, f"{op} is in the lanes {found}"
    return found[0]


def test_each_thread_has_a_lane_numbered_in_starting_order(tmp_path: Path) -> None:
    source = """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        import torch

        class Own(threading.Thread):
            def run(self):
                torch.ones(2).tan()  # in a subclass

        def first():
            gate.wait()
            made.append(shared.sin())  # in the first

        def second():
            torch.rand(2)  # a draw in the second
            with torch.no_grad():
                layer(shared)  # in the second
            gate.set()

        def trained():
            w = torch.ones(2, requires_grad=True)
            w.exp().sum().backward()  # backward in a thread
            torch.optim.SGD([w], lr=0.1).step()  # a step in a thread

        def pooled(k):
            together.wait()
            return shared + k  # pooled

        def idle():
            pass

        torch.manual_seed(0)
        layer = torch.nn.Linear(2, 2)
        shared = torch.ones(2)  # shared
        made, gate, together = [], threading.Event(), threading.Barrier(2)
        threads = [threading.Thread(target=target, name="x") for target in (first, second)]
        for thread in threads:
            thread.start()  # started
        for thread in threads:
            thread.join()
        own = Own()
        own.start()  # own
        own.join()
        for target in (idle, trained):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(pooled, (5, 6)))
        total = results[0] + made[0]  # collected
        """
    recorded = record(tmp_path, source)

    assert lane_of(recorded, "sin") == "thread 1"  # though it ran after the second
    assert lane_of(recorded, "addmm") == lane_of(recorded, "rand") == "thread 2"
    assert lane_of(recorded, "tan") == "thread 3"
    assert lane_of(recorded, "exp") == "thread 5"
    assert "thread 4" not in recorded.trace.lanes or recorded.rows("thread 4") == []
    pooled = {name: recorded.at("pooled", lane=name) for name in ("thread 6", "thread 7")}
    assert sorted(row.args for rows in pooled.values() for row in rows) == [[5], [6]]
    assert all(len(rows) == 1 for rows in pooled.values())

    # what another lane made is neither external nor without an owner
    for lane, mark in (("thread 1", "in the first"), ("thread 6", "pooled")):
        assert recorded.at(mark, lane=lane)[0].inputs[0] < ELSEWHERE
        assert recorded.at(mark, "external", lane) == []
    assert all(k < ELSEWHERE for k in recorded.op("collected").inputs)
    assert [r.stream for r in recorded.draws("thread 2")] == ["torch-cpu"]
    assert {r.module for r in recorded.at("in the second", lane="thread 2")} == {"Linear"}
    trained = "thread 5"
    assert {r.phase for r in recorded.at("backward in a thread", lane=trained)} == {"forward", "backward"}
    assert {r.phase for r in recorded.at("a step in a thread", lane=trained)} == {"optimizer"}
    assert (recorded.trace.lanes[trained].steps, recorded.main.steps) == (1, 0)

    assert [r.op for r in recorded.rows() if r.op.endswith(("sin.default", "tan.default", "exp.default"))] == []
    started = [(e["number"], e["name"], e["line"]) for e in recorded.events("thread")]
    assert started[:3] == [
        (1, "first", recorded.line("started")),
        (2, "second", recorded.line("started")),
        (3, "Own.run", recorded.line("own")),
    ]
    for name in ("main", "thread 1", "thread 2", "thread 3"):
        rows = [r for r in recorded.rows(name) if r.kind != "draw"]
        assert [r.index for r in rows] == list(range(len(rows)))
        assert all(k < ELSEWHERE or 0 <= k < r.row for r in rows for k in r.inputs)


def test_forked_and_started_processes_have_their_own_lanes(tmp_path: Path) -> None:
    source = """
        import multiprocessing as mp, os, subprocess, sys
        import torch

        def forked(k):
            torch.manual_seed(k)  # seed of the child
            (shared * k).cosh()  # in the child

        if __name__ == "__main__":
            shared = torch.ones(2)  # shared
            before = shared + 1  # before
            pid = os.fork()
            if not pid:
                (before + 2).cos()  # in the fork
                os._exit(0)
            os.waitpid(pid, 0)
            after = before.sin()  # after
            process = mp.get_context("fork").Process(target=forked, args=(3,))
            process.start()
            process.join()
            subprocess.run([sys.executable, "other.py"], check=True)
            subprocess.run([sys.executable, "-c", "import torch; torch.ones(2).tanh()"], check=True)
            subprocess.run(["true"], check=True)
            after.exp()  # end
        """
    recorded = record(tmp_path, source, other="import torch\ntorch.ones(2).tan()\n")

    assert next(iter(recorded.trace.lanes)) == "main"
    assert lane_of(recorded, "cos") == "fork 1"
    assert lane_of(recorded, "cosh") == "process 1"
    assert lane_of(recorded, "tan") == "process other.py"
    assert lane_of(recorded, "tanh").startswith("process ")
    assert lane_of(recorded, "sin") == lane_of(recorded, "exp") == "main"
    assert len(recorded.trace.lanes) == 5

    assert recorded.names("in the fork", lane="fork 1") == ["add.Tensor", "cos.default"]
    assert recorded.at("in the fork", lane="fork 1")[0].inputs[0] < ELSEWHERE
    assert recorded.at("in the child", lane="process 1")[0].inputs[0] < ELSEWHERE
    assert recorded.at("before", lane="fork 1") == recorded.at("in the fork") == []
    assert [(e["value"], e["line"]) for e in recorded.events("seed", lane="process 1")] == [("3", recorded.line("seed of the child"))]
    assert recorded.events("seed") == []
    assert [recorded.trace.lanes[n].ended for n in ("main", "fork 1", "process 1")] == [True, False, True]  # os._exit leaves no end mark
    assert recorded.inputs(recorded.op("end")) == [recorded.op("after")]
    rows = [r for r in recorded.rows() if r.kind != "draw"]
    assert [r.index for r in rows] == list(range(len(rows)))


WORKERS = """
    import random
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Noise(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, k):
            return torch.randn(2) + random.random() + float(np.random.rand()) * k  # item

    if __name__ == "__main__":
        torch.manual_seed(0)
        loader = DataLoader(Noise(), batch_size=2, num_workers=2, multiprocessing_context="METHOD")
        for epoch in range(2):
            for batch in loader:
                y = batch * 2  # batch
        alone = next(iter(DataLoader(Noise(), batch_size=2)))  # without workers
    """


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_each_loader_worker_has_a_lane_and_its_batches_are_external_in_order_of_use(method: str, tmp_path: Path) -> None:
    recorded = record(tmp_path, WORKERS.replace("METHOD", method))

    lanes = ["worker 0", "worker 0 (2)", "worker 1", "worker 1 (2)"]  # the second epoch has new workers
    assert sorted(recorded.trace.lanes) == sorted(["main", *lanes])
    states = set()
    for lane in lanes:
        items = recorded.at("item", lane=lane)
        assert [r.op for r in items].count("aten.randn.default") == 4
        streams = {r.stream for r in recorded.draws(lane)}
        assert streams == {"torch-cpu", "python", "numpy"}
        states |= {(r.stream, r.digest) for r in recorded.draws(lane)[:3]}
        assert {e["stream"] for e in recorded.events("seed", lane=lane)} == streams
        assert not any(e["entropy"] for e in recorded.events("seed", lane=lane))
        assert {r.step for r in items} == {0}
        assert recorded.trace.lanes[lane].ended
    assert len(states) == 3 * len(lanes)

    assert recorded.at("item", lane="main")[0].row > recorded.at("batch")[-1].row  # only those of the loader without workers
    externals = recorded.at("batch", "external")
    assert len(externals) == 8
    assert all(r.rows for r in externals)
    batches = [recorded.inputs(r) for r in recorded.at("batch")]
    assert batches == [[r] for r in externals]
    # every batch comes from a worker, and the workers take turns
    made = {lane: [r.digest for r in recorded.rows(lane) if r.op == "aten.stack.out"] for lane in lanes}
    for epoch, (zero, one) in enumerate((("worker 0", "worker 1"), ("worker 0 (2)", "worker 1 (2)"))):
        used = [r.digest for r in externals[4 * epoch : 4 * epoch + 4]]
        assert used == [made[zero][0], made[one][0], made[zero][1], made[one][1]]


def test_a_spawned_process_has_a_numbered_lane(tmp_path: Path) -> None:
    source = """
        import multiprocessing as mp
        import torch

        def spawned(k):
            torch.ones(2).cosh()  # in the child

        if __name__ == "__main__":
            process = mp.get_context("spawn").Process(target=spawned, args=(3,))
            process.start()
            process.join()
            torch.ones(1)
        """
    recorded = record(tmp_path, source)

    assert recorded.names("in the child", lane=lane_of(recorded, "cosh")) == ["ones.default", "cosh.default"]
    assert lane_of(recorded, "cosh") == "process 1"


def test_directories_made_by_the_library_itself_are_not_recorded(tmp_path: Path) -> None:
    recorded = record(tmp_path, WORKERS.replace("METHOD", "fork"))

    assert [e["path"] for lane in recorded.trace.lanes for e in recorded.events("file", lane=lane)] == []
