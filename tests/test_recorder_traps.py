"""Known traps of tracers (section 9 of the design), with one test each."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from auditor.trace.reader import opened
from tests.processes import audited, bare, environment, kept, made_once, write
from tests.recordings import Recorded, record

pytestmark = pytest.mark.torch

SOURCE = """
    import random
    from random import random as bare, shuffle
    import os, struct, threading, warnings
    import numpy as np
    import torch
    import helper

    warnings.simplefilter("ignore")

    def memory(*values):
        return torch.frombuffer(bytearray(struct.pack(f"{len(values)}f", *values)), dtype=torch.float32)

    # seeds
    model = torch.nn.Linear(2, 2)  # built before the seed
    torch.manual_seed(0)  # seeded late

    # in place and out=
    a = memory(1.0, 2.0)
    a.mul_(3)  # in place
    out = memory(5.0, 5.0)
    torch.mul(memory(2.0, 3.0), 2, out=out)  # out

    # order
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for values in (x, x.flip(0), x.t(), -x, x.abs()):
        y = values.contiguous() * 1  # digests
    for fill in (0.0, 1.0, 2.0, 0.0):
        y = torch.full((4,), fill)  # constants

    # views
    flat = torch.arange(6.0)
    y = flat.view(2, 3).t() * 1  # transposed
    y = flat.view(3, 2) * 1  # not transposed
    y = flat.view(2, 3) * 1  # of another shape

    # names taken before
    bare()  # under a name of its own
    torch.ones(1)
    helper.draw()

    # threads
    thread = threading.Thread(target=lambda: torch.ones(1).sinh())
    thread.start()
    thread.join()

    # memory
    torch.use_deterministic_algorithms(True)
    print(torch.empty(3).isnan().all().item())  # filled
    torch.use_deterministic_algorithms(False)

    # settings without effect
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    os.environ["PYTHONHASHSEED"] = "12345"
    (w * 2).sum().backward()
    optimizer.step()
    """

HELPER = """
import random
draw = random.random
"""


@pytest.fixture(scope="session")
def traps(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """One run with most of the traps."""
    folder, run = made_once(tmp_path_factory, "traps", lambda folder: record(folder, SOURCE, helper=HELPER).trace.path.name)
    return Recorded(folder, SOURCE, opened(folder / run))


def floats(*values: float) -> int:
    """Digest of these numbers as float32."""
    return xxh3_64_intdigest(struct.pack(f"<{len(values)}f", *values))


def test_in_place_and_out_ops_have_their_old_input_and_their_new_output(traps: Recorded) -> None:
    (before,) = traps.at("in place", "external")
    row = traps.op("in place")
    assert (before.digest, row.digest, traps.inputs(row)) == (floats(1, 2), floats(3, 6), [before])
    (given,) = traps.at("out", "external")  # the previous content of `out` is not an input
    row = traps.op("out")
    assert (given.digest, row.digest, traps.inputs(row)) == (floats(2, 3), floats(4, 6), [given])


def test_digests_depend_on_order_sign_and_constants(traps: Recorded) -> None:
    as_is, flipped, transposed, negative, absolute = (r.digest for r in traps.at("digests") if r.op == "aten.mul.Tensor")
    assert len({as_is, flipped, transposed, negative}) == 4
    assert absolute == as_is
    zero, one, two, again = (r.digest for r in traps.at("constants"))
    assert len({zero, one, two}) == 3
    assert again == zero


def test_a_name_imported_before_arming_is_still_recorded(traps: Recorded) -> None:
    assert [(r.stream, r.op) for r in traps.at("under a name of its own", "draw")] == [("python", "random.random")]
    assert [(r.file, r.op) for r in traps.draws() if r.file == "train.py" and r.op.startswith("random")] == [
        ("train.py", "random.random")
    ] * 2


def test_ops_of_a_thread_are_recorded_though_a_mode_is_per_thread(traps: Recorded) -> None:
    assert [r.op for r in traps.rows("thread 1")] == ["aten.ones.default", "aten.sinh.default"]
    assert not [r for r in traps.rows() if r.op == "aten.sinh.default"]


def test_equal_bytes_in_memory_are_not_equal_tensors(traps: Recorded) -> None:
    transposed, plain, other = (traps.op(m, "mul.Tensor") for m in ("transposed", "not transposed", "of another shape"))
    assert transposed.digest == plain.digest == other.digest == floats(*range(6))
    assert transposed.shape == plain.shape != other.shape
    assert transposed.stride != plain.stride
    assert len({transposed.what, plain.what, other.what}) == 3


def test_deterministic_algorithms_are_recorded_with_the_filling_of_memory(traps: Recorded) -> None:
    settings: dict[str, list[Any]] = {}
    for event in traps.events("setting"):
        settings.setdefault(event["name"], []).append(event["value"])
    assert settings["torch.are_deterministic_algorithms_enabled"] == [False, True, False]
    assert settings["torch.utils.deterministic.fill_uninitialized_memory"] == [True]
    assert traps.out == ["True"]
    assert traps.op("filled", "empty.memory_format").digest == 0


def test_a_setting_without_effect_is_recorded_where_it_was_set(traps: Recorded) -> None:
    (seed,) = [e for e in traps.events("seed") if e["line"] == traps.line("seeded late")]
    drawn = traps.at("built before the seed", "draw")
    assert len(drawn) == 2
    assert all(r.row < seed["row"] for r in drawn)  # a rule can tell that the seed came too late
    changes = [e["value"] for e in traps.events("setting") if e["name"] == "environ:PYTHONHASHSEED" and not e["initial"]]
    assert changes == ["12345"]


def test_types_gradients_and_ops_are_the_same_as_without_the_recorder(tmp_path: Path) -> None:
    """Wrapped types, backward hooks, and an `.item()` of ours after each op."""
    write(
        tmp_path,
        train="""
            import random
            import numpy as np
            import torch

            rng, state = np.random.default_rng(1), np.random.RandomState(1)
            print(type(rng) is np.random.Generator, type(state) is np.random.RandomState, type(random.Random(1)) is random.Random)
            print(type(torch.Generator()) is torch.Generator, type(torch.ones(1)) is torch.Tensor, type(torch.optim.SGD) is type)
            print(type(open(__file__)).__name__, isinstance(rng.normal, type(np.random.default_rng(2).normal)), callable(open))

            torch.manual_seed(0)
            w = torch.randn(64, requires_grad=True)
            scales = [10.0**k for k in (-6, 6, 0, -3, 3)]
            with torch.autograd.profiler.profile() as profile:
                loss = sum((w * s).sin().sum() for s in scales)
                loss.backward()
            print(w.grad.double().sum().item().hex(), w.grad[:5].tolist())
            print(w._backward_hooks, loss._backward_hooks, w.grad_fn)
            # under any mode gradients are accumulated by add instead of add_, so not all names are compared
            print([e.key for e in profile.key_averages() if e.key in ("aten::item", "aten::_local_scalar_dense", "aten::to", "aten::cpu")])
            """,
    )
    without = bare(tmp_path, "train.py")
    assert without.status == 0, without.said
    audited(tmp_path, "record", "-o", "run", "train.py")

    assert kept(tmp_path / "run").out == without.out
    said = without.out.decode().splitlines()
    assert said[0] == "True True True"
    assert "aten::_local_scalar_dense" not in said[-1]


def seen(run: Path) -> tuple[list[Any], list[Any]]:
    """Everything in a run's main lane, except clock times and the one variable that was set differently."""
    lane = opened(run).lanes["main"]
    rows = [tuple(row.values()) for row in lane.query('SELECT * FROM records ORDER BY "row"')]
    return rows, [e for e in lane.events if e.get("name") != "environ:PYTHONHASHSEED"]


def test_a_trace_depends_neither_on_the_hash_seed_nor_on_uninitialized_memory(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import random
            import numpy as np
            import torch

            random.seed(1), np.random.seed(1), torch.manual_seed(1)
            model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            unread = torch.empty(1000), torch.empty_like(torch.ones(300)), torch.ones(3).new_empty(700)
            for step in range(2):
                x = torch.from_numpy(np.random.rand(5, 3)).float() + random.random()
                loss = torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 0, 1, 0]), reduction="sum")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                print(loss.item())
            unread[0].fill_(1.0)
            unread[1][:3] = 1.0
            torch.add(unread[0], 1, out=torch.empty(1000))
            torch.cat([torch.ones(2), unread[0][:2]])
            """,
    )
    for run, seed, fill in (("a", "1", "1"), ("b", "2", "165")):
        done = audited(tmp_path, "record", "-o", run, "train.py", env=environment(PYTHONHASHSEED=seed, MALLOC_PERTURB_=fill))
        assert done.status == 0, done.said

    assert seen(tmp_path / "a") == seen(tmp_path / "b")
    assert len(seen(tmp_path / "a")[0]) > 100


@pytest.mark.parametrize(
    ("made", "differs"),
    [
        pytest.param("torch.empty(500).view(5, 100).t()", False, id="viewed"),
        pytest.param("torch.empty(500) + 0", True, id="read"),
        pytest.param(
            "torch.empty(0).resize_(500)", False, id="resized"
        ),
        pytest.param(
            "torch._empty_affine_quantized([500], scale=1.0, zero_point=0, dtype=torch.qint8)", False, id="quantized",
        ),
    ],
)  # fmt: skip
def test_uninitialized_memory_is_no_divergence_before_it_is_read(made: str, differs: bool, tmp_path: Path) -> None:
    write(tmp_path, train=f"import warnings\nimport torch\nwarnings.simplefilter('ignore')\nx = {made}\n")
    for run, fill in (("a", "1"), ("b", "165")):
        done = audited(tmp_path, "record", "-o", run, "train.py", env=environment(MALLOC_PERTURB_=fill))
        assert done.status == 0, done.said

    assert (seen(tmp_path / "a") != seen(tmp_path / "b")) is differs


def test_ops_of_a_forked_worker_are_only_in_its_lane_though_it_inherits_the_mode(tmp_path: Path) -> None:
    source = """
        import torch
        from torch.utils.data import DataLoader, Dataset

        class Data(Dataset):
            def __len__(self):
                return 4

            def __getitem__(self, k):
                return torch.full((2,), float(k)).sinh()  # item

        torch.ones(1)
        for batch in DataLoader(Data(), num_workers=1, multiprocessing_context="fork"):
            batch.exp()  # batch
        """
    recorded = record(tmp_path, source)

    assert sorted(recorded.trace.lanes) == ["main", "worker 0"]
    assert recorded.names("item", lane="worker 0") == ["full.default", "sinh.default"] * 4
    assert recorded.at("item") == []
    rows = recorded.rows("worker 0")
    assert [r.index for r in rows] == list(range(len(rows)))
    assert recorded.names("batch") == ["exp.default"] * 4


def test_losses_that_print_the_same_can_have_different_digests(tmp_path: Path) -> None:
    source = """
        import torch

        w = torch.tensor([1.0, 2.0, START], requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.1)
        for step in range(2):
            loss = w.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(f"{loss.item():.4f}")
        """
    runs = [record(tmp_path / k, source.replace("START", start)) for k, start in (("a", "3.0"), ("b", "3.000001"), ("c", "3.0"))]

    assert runs[0].out == runs[1].out == runs[2].out
    for name in ("loss_digest", "parameters", "gradients"):
        first, other, again = ([e[name] for e in run.events("step")] for run in runs)
        assert first == again
        assert all(x != y for x, y in zip(first, other, strict=True))


def test_a_second_run_that_reads_the_firsts_output_is_reported(tmp_path: Path) -> None:
    source = """
        import os
        import torch

        w = torch.ones(2)
        if os.path.exists("last.pt"):
            w = torch.load("last.pt") + 1  # reads
        torch.save(w, "last.pt")  # writes
        """
    write(tmp_path, train=source)
    found = []
    for run in ("a", "b"):
        done = audited(tmp_path, "record", "-o", run, "train.py")
        assert done.status == 0, done.said
        content = xxh3_64_intdigest((tmp_path / "last.pt").read_bytes())
        found.append(([(e["path"], e["op"], e.get("digest")) for e in opened(tmp_path / run).lanes["main"].events_of("file")], content))

    (first, left), (second, _) = found
    assert first == [("last.pt", "write", None)]
    assert second == [("last.pt", "read", left), ("last.pt", "write", None)]
