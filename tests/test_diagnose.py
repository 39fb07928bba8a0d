"""The factors and the source line of a difference, for hand-written differences and sources given as text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from auditor import diagnose, plugins
from auditor.diagnose import Entry, Suspicion
from auditor.report.words.reasons import text_of
from auditor.results import Detail, Divergence, FileDifference, Kind, Place, Stream

Read = Callable[[str], str]
FACTORS = plugins.factors()
suspicion = partial(diagnose.suspicion, FACTORS)


def source(text: str, name: str = "train.py") -> Read:
    """A reader that knows one file."""
    known = {name: textwrap.dedent(text).lstrip("\n")}
    return lambda file: known.get(file, "")


def entered_at(
    factor: str, divergence: Divergence, entries: Sequence[Entry], read: Read, others: Sequence[str] = ()
) -> tuple[Place, str]:  # fmt: skip
    """The line where a factor entered, and what is said of it."""
    place, doing = diagnose.entered_at(FACTORS, factor, divergence, entries, read, others)
    return place, text_of(doing)


def differs(kind: Kind, line: int | None = 3, lane: str = "main", file: str | None = "train.py", **detail: Any) -> Divergence:
    """A difference at a line of train.py, at record 10 unless the detail says otherwise."""
    return Divergence(
        runs=["control-1", "control-2"], kind=kind, lane=lane, index=7, step=0, phase="forward", op="aten.mul.Tensor", file=file, line=line,
        code="x = x * y", detail=Detail(**({"row": 10} | detail)),
    )  # fmt: skip


def stream(name: str, what: str = "draw by random.random", entropy: bool = False, line: int | None = 3) -> Stream:
    """A stream in another state."""
    how, _, function = what.partition(" by ")
    return Stream(name=name, how=how, function=function or None, file="train.py", line=line, entropy=entropy)


def read_at(factor: str, row: int, line: int, function: str = "time.time") -> Entry:
    """A read in train.py."""
    return Entry(factor, function, row, "train.py", line, f"code of line {line}")


NOTHING = source("")


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("torch-cpu", "torch-seed"),
        ("torch-cuda:0", "cuda-seed"),
        ("numpy", "numpy-seed"),
        ("python", "python-seed"),
        ("os-entropy", "os-entropy"),
    ],
)
def test_a_draw_points_first_to_its_stream(name: str, factor: str) -> None:
    divergence = differs("draw", origin=stream(name), streams=[stream("numpy"), stream(name)])

    found = suspicion(divergence, [], NOTHING)

    assert found.factors[0] == factor
    assert found.founded
    assert "numpy-seed" in found.factors


def test_a_stream_shared_by_threads_points_to_their_timing_before_its_seed() -> None:
    shared = stream("python-own").model_copy(update={"shared": True})
    assert suspicion(differs("draw", lane="thread 1", origin=shared), [], NOTHING).factors == ("thread-timing", "python-seed")
    assert suspicion(differs("draw", lane="thread 1", origin=stream("python-own")), [], NOTHING).factors == ("python-seed",)


def test_a_draw_in_a_worker_points_to_worker_seeding_before_its_stream() -> None:
    found = suspicion(differs("draw", lane="worker 0", origin=stream("numpy")), [], NOTHING)

    assert found.factors == ("worker-seed", "numpy-seed")


def test_a_seed_made_from_the_time_points_to_the_clock_before_the_stream() -> None:
    script = source("""
        import time, torch
        seed = int(time.time())
        torch.manual_seed(seed)
    """)

    found = suspicion(differs("draw", origin=stream("torch-cpu", "seed by torch.manual_seed")), [], script)

    assert found.factors == ("clock", "torch-seed")


def test_a_seed_drawn_from_another_stream_points_to_that_stream_first() -> None:
    origin = stream("torch-cpu", "seed by torch.manual_seed")
    divergence = differs("draw", origin=origin, streams=[stream("python", line=2), origin])

    assert suspicion(divergence, [], NOTHING).factors == ("python-seed", "torch-seed")


def test_a_seed_from_the_operating_system_points_directly_to_its_stream() -> None:
    origin = stream("numpy", "seed by numpy.random.default_rng", entropy=True)

    assert suspicion(differs("draw", origin=origin, streams=[origin]), [], NOTHING).factors == ("numpy-seed",)


def test_differing_settings_are_no_streams() -> None:
    divergence = differs("kernel", streams=[stream("torch.backends.cudnn.benchmark", "setting")])

    assert not suspicion(divergence, [], NOTHING).founded
    assert "torch-seed" not in suspicion(divergence, [], NOTHING).factors


@pytest.mark.parametrize(
    ("kind", "first", "founded"),
    [
        ("data-order", "hash-seed", True),
        ("uninitialized", "uninitialized-memory", True),
        ("hidden-write", "clock", False),
        ("structure", "hash-seed", False),
        ("argument", "hash-seed", False),
        ("kernel", "uninitialized-memory", False),
        ("failed", "leftover-files", False),
    ],
)
def test_without_events_the_kind_alone_suggests_factors_and_is_no_evidence(kind: Kind, first: str, founded: bool) -> None:
    found = suspicion(differs(kind), [], NOTHING)

    assert found.factors[0] == first
    assert found.founded is founded


def test_data_without_any_events_point_to_nothing() -> None:
    assert suspicion(differs("data"), [], NOTHING) == Suspicion((), False)


def test_a_kernel_on_a_gpu_points_to_kernels_but_one_on_a_cpu_does_not() -> None:
    assert suspicion(differs("kernel", a={"out": "float32[4] cuda:0"}), [], NOTHING).factors[0] == "kernels"
    assert "kernels" not in suspicion(differs("kernel", a={"out": "float32[4] cpu"}), [], NOTHING).factors


@pytest.mark.parametrize(
    ("call", "factor"),
    [
        ("time.time()", "clock"),
        ("os.getpid()", "process-id"),
        ("os.urandom(1)[0]", "os-entropy"),
        ("len(os.listdir('.')[0])", "file-order"),
        ("hash('cat')", "hash-seed"),
        ("id(torch)", "address-layout"),
        ("list({'a', 'b'}).index('a')", "hash-seed"),
        ("len(tempfile.gettempdir())", "environment"),
    ],
)
def test_calls_that_feed_the_line_are_suspected_first_and_other_calls_are_not(call: str, factor: str) -> None:
    fed = source(f"import os, tempfile, time, torch\ny = {call}\nx = torch.ones(1) * y\n")
    beside = source(f"import os, tempfile, time, torch\nz = {call}\nx = torch.ones(1) * 2\n")

    assert suspicion(differs("argument"), [], fed).factors[0] == factor
    assert suspicion(differs("argument"), [], fed).founded
    assert not suspicion(differs("argument"), [], beside).founded


def test_of_two_calls_that_feed_the_line_the_nearer_is_suspected_first() -> None:
    far = "a = time.time()\nb = os.getpid()\nx = torch.ones(1) * (a + b)\n"
    near = "b = os.getpid()\na = time.time()\nx = torch.ones(1) * (a + b)\n"
    head = "import os, time, torch\n"

    assert suspicion(differs("argument", 4), [], source(head + far)).factors[:2] == ("process-id", "clock")
    assert suspicion(differs("argument", 4), [], source(head + near)).factors[:2] == ("clock", "process-id")


def test_differing_files_point_to_leftovers_and_reordered_folders_to_file_order() -> None:
    read = FileDifference(path="cache.pt", op="read", what="one-run-only", file="train.py", line=2)
    ordered = FileDifference(path="data", op="list", what="other-order", file="train.py", line=2)
    grown = FileDifference(path="data", op="list", what="other-names", file="train.py", line=2)

    assert suspicion(differs("data", files=[read]), [], NOTHING).factors == ("leftover-files",)
    assert suspicion(differs("data", files=[ordered]), [], NOTHING).factors == ("file-order",)
    assert suspicion(differs("data", files=[grown]), [], NOTHING).factors == ("leftover-files",)


def test_reads_before_the_divergence_are_suspected_latest_first_and_later_ones_not() -> None:
    entries = [read_at("clock", 2, 1), read_at("process-id", 8, 2), read_at("os-entropy", 11, 4)]

    assert suspicion(differs("data"), entries, NOTHING) == Suspicion(("process-id", "clock"), True)


def test_a_thread_points_to_thread_timing_and_a_worker_to_worker_timing() -> None:
    assert suspicion(differs("data", lane="thread 1"), [], NOTHING).factors[0] == "thread-timing"
    assert suspicion(differs("structure", lane="worker 1"), [], NOTHING).factors[0] == "worker-timing"


def test_a_failed_run_is_diagnosed_at_the_line_that_raised_the_error() -> None:
    script = source("""
        import os, torch
        x = torch.ones(1)
        n = os.getpid()
        if n % 2:
            raise ValueError(n)
    """)
    raised = Place(file="train.py", line=5, function="<module>", code="raise ValueError(n)")

    found = suspicion(differs("failed", 2, raised=raised), [], script)

    assert found.factors[0] == "process-id"
    assert suspicion(differs("failed", 2), [], script).factors[0] != "process-id"


def test_the_line_of_a_seed_is_that_of_the_differing_draw() -> None:
    place, doing = entered_at("torch-seed", differs("draw", 5, origin=stream("torch-cpu", line=5)), [], NOTHING)

    assert (place.file, place.line, place.code) == ("train.py", 5, "x = x * y")
    assert doing == "aten.mul.Tensor draws here"


def test_a_draw_that_made_a_run_fail_is_the_origin_and_not_the_failing_line() -> None:
    script = source("""
        import random
        n = random.random()
        if n < 0.5:
            raise ValueError
    """)
    raised = Place(file="train.py", line=4, code="raise ValueError")
    divergence = differs("failed", 1, streams=[stream("python", line=2)], raised=raised)

    place, doing = entered_at("python-seed", divergence, [], script)
    assert (place.line, place.code, doing) == (2, "n = random.random()", "random.random here")
    place, doing = entered_at("leftover-files", divergence, [], script)
    assert (place.line, place.code, doing) == (4, "raise ValueError", "it fails here")


def test_of_several_reads_the_one_that_feeds_the_line_is_the_origin() -> None:
    script = source("""
        import time, torch
        began = time.time()
        print(time.time())
        x = torch.ones(1) * began
    """)
    entries = [read_at("clock", 2, 2), read_at("clock", 3, 3), read_at("process-id", 4, 1)]

    place, doing = entered_at("clock", differs("argument", 4), entries, script)

    assert (place.line, doing) == (2, "time.time is called here")


def test_if_no_read_feeds_the_line_the_last_before_the_divergence_is_the_origin() -> None:
    entries = [read_at("clock", 2, 2), read_at("clock", 9, 6), read_at("clock", 12, 7)]

    assert entered_at("clock", differs("data"), entries, NOTHING)[0].line == 6


def test_without_a_read_the_source_locates_the_clock_or_else_the_divergent_line() -> None:
    script = source("""
        import time, torch
        y = time.time()
        x = torch.ones(1) * y
    """)

    assert entered_at("clock", differs("argument"), [], script) == (
        Place(file="train.py", line=2, code="y = time.time()"),
        "time.time is called here",
    )
    assert entered_at("clock", differs("argument"), [], NOTHING)[0].line == 3


def test_a_set_that_feeds_the_line_is_the_origin_and_a_nearer_unrelated_one_is_not() -> None:
    script = source("""
        import torch
        ids = {name: k for k, name in enumerate({"cat", "dog"})}
        for name in {"x", "y"}:
            print(name)
        x = torch.tensor(list(ids.values()))
    """)

    place, doing = entered_at("hash-seed", differs("data", 5), [], script)

    assert place.line == 2
    assert doing.endswith("is ordered here")


def test_a_set_in_another_file_is_named_only_if_there_is_no_other() -> None:
    one = 'NAMES = list({"a", "b"})\n'
    files = {"train.py": "import torch\nimport names\nx = torch.tensor(names.ids)\n", "names.py": one, "more.py": one}

    def read(file: str) -> str:
        return files.get(file, "")

    place, _ = entered_at("hash-seed", differs("data"), [], read, ["train.py", "names.py"])
    assert (place.file, place.line) == ("names.py", 1)
    place, _ = entered_at("hash-seed", differs("data"), [], read, ["train.py", "names.py", "more.py"])
    assert (place.file, place.line) == ("train.py", 3)


def test_file_order_originates_at_the_listing_and_a_leftover_file_at_its_read() -> None:
    script = source("""
        import glob, torch
        names = glob.glob("*.pt")
        x = [torch.load(name) for name in names]
    """)
    ordered = FileDifference(path=".", op="list", what="other-order", file="train.py", line=2)
    read = FileDifference(path="cache.pt", op="read", what="other-content", file="train.py", line=3)

    place, doing = entered_at("file-order", differs("data-order", files=[ordered, read]), [], script)
    assert (place.line, doing) == (2, "glob.glob is listed here") or (place.line, place.code) == (2, 'names = glob.glob("*.pt")')
    place, doing = entered_at("leftover-files", differs("data", files=[ordered, read]), [], script)
    assert (place.line, doing) == (3, "cache.pt is read here")


def test_uninitialized_memory_originates_where_it_was_allocated() -> None:
    made = Place(file="train.py", line=1, code="x = torch.empty(4)")

    assert entered_at("uninitialized-memory", differs("uninitialized", allocated=made), [], NOTHING) == (made, "the memory is made here")


def test_a_backward_kernel_originates_at_its_forward_line_but_a_seed_does_not() -> None:
    forward = Place(file="train.py", line=1, code="y = model(x)")
    divergence = differs("kernel", forward=forward)

    assert entered_at("threads", divergence, [], NOTHING)[0] == forward
    assert entered_at("torch-seed", divergence, [], NOTHING)[0].line == 3


def test_a_divergence_without_a_line_has_no_origin_line_for_any_factor() -> None:
    divergence = differs("data", None, file=None)

    for factor in ("hash-seed", "file-order", "clock", "threads", "torch-seed", "leftover-files"):
        assert entered_at(factor, divergence, [], NOTHING)[0].line is None
    assert suspicion(divergence, [], NOTHING) == Suspicion((), False)
