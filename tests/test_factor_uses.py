"""Uses of factors: the trace has the user's line that read the clock, drew a number or listed a folder."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from auditor import plugins
from auditor.compare import compare
from auditor.factors import plan_with
from auditor.launch import Progress, launch
from auditor.listing import listing, print_listing
from auditor.plan import Plan
from auditor.trace.reader import opened
from auditor.trace.tables import Tables
from tests.processes import write
from tests.recordings import Recorded, marks_of

FACTORS = plugins.factors()
WATCHED = tuple(name for name, factor in FACTORS.items() if factor.watches)


class SilentScreen:
    """A screen that shows nothing."""

    def output(self, stream: int, data: bytes) -> None:
        """Drop it: the run keeps it."""

    def progress(self, progress: Progress) -> None:
        """Drop it."""


def run(
    folder: Path,
    source: str,
    watched: Sequence[str] = WATCHED,
    pinned: Sequence[str] = (),
    varied: Sequence[str] = (),
    name: str = "run",
    **variables: str,
) -> Recorded:
    """One run of `train.py` with this source, with these factors watched, pinned and varied."""
    write(folder, train=source)
    plan = plan_with(Plan(("train.py",), cwd=str(folder)), FACTORS, pinned, varied, watched).with_environment(**variables)
    launch(plan, folder / name, name, "experiment", SilentScreen(), quiet=True)
    done = Recorded(folder, source, opened(folder / name))
    assert done.trace.meta["exit"] == 0, (folder / name / "stderr").read_text()
    assert {what for what in done.lost() if "torch.compile was used" not in what} == set()
    return done


def uses_of(done: Recorded, factor: str, lane: str = "main") -> list[dict[str, Any]]:
    """The events of one factor."""
    return [event for event in done.events("entered", lane=lane) if event["factor"] == factor]


def marks(done: Recorded, factor: str, lane: str = "main") -> list[tuple[str, str]]:
    """The functions through which a factor was used, with the mark of the script's line; the source of the line is checked as well."""
    source = (done.folder / "train.py").read_text()
    mark_of, lines = {line: mark for mark, line in marks_of(source).items()}, source.splitlines()
    found = []
    for event in uses_of(done, factor, lane):
        assert event["file"] == "train.py"
        assert event["code"] == lines[event["line"] - 1].strip()
        found.append((event["function"], mark_of.get(event["line"], f"line {event['line']}")))
    return found


CLOCKS = """
    import datetime
    import logging
    import queue
    import time
    from time import perf_counter_ns

    import torch

    def name():
        return f"{datetime.datetime.now():%Y}"  # in a function

    began = time.time()  # time
    perf_counter_ns()  # imported
    time.clock_gettime(time.CLOCK_REALTIME)  # by number
    time.localtime(0), time.gmtime(1.5), time.strftime("%Y", (2020,) + (1,) * 8)  # of another time
    time.localtime(), time.ctime(None)  # now
    time.strftime("%Y")  # text
    datetime.date.today()  # today
    datetime.datetime.today()  # also today
    datetime.datetime.utcnow()  # utc
    datetime.datetime.now(datetime.timezone.utc)  # zoned
    name()
    logging.getLogger().error("a library reads it for itself")
    try:
        queue.Queue().get(timeout=0.01)
    except queue.Empty:
        pass
    torch.ones(1).sum()  # an op
"""
READINGS = [
    ("time.time", "time"),
    ("time.perf_counter_ns", "imported"),
    ("time.clock_gettime", "by number"),
    ("time.localtime", "now"),
    ("time.ctime", "now"),
    ("time.strftime", "text"),
    ("datetime.date.today", "today"),
    ("datetime.date.today", "also today"),
    ("datetime.datetime.utcnow", "utc"),
    ("datetime.datetime.now", "zoned"),
    ("datetime.datetime.now", "in a function"),
]


@pytest.mark.torch
@pytest.mark.parametrize("how", ["watched", "pinned", "varied"])
def test_each_clock_read_by_the_script_is_recorded_with_its_line(how: str, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"watched": (), how: ["clock"]}
    done = run(tmp_path, CLOCKS, **chosen)
    assert marks(done, "clock") == READINGS
    last = uses_of(done, "clock")[-1]
    assert (last["func"], last["asked_by"], last["nth"]) == ("name", "script", 1)
    assert last["row"] <= done.op("an op", "ones.default").row


@pytest.mark.torch
def test_a_pinned_clock_and_environment_work_although_both_wrap_the_same_functions(tmp_path: Path) -> None:
    source = """
        import datetime
        import time

        import torch

        torch.ones(1)
        print(time.localtime(), time.ctime(), time.strftime("%c"), time.asctime(), time.time())
        print(datetime.datetime.now(), datetime.date.today())
    """
    for name, order in (("a", ["clock", "environment"]), ("b", ["environment", "clock"])):
        assert "2020" in run(tmp_path, source, (), order, name=name).out[0]
    assert (tmp_path / "a" / "stdout").read_bytes() == (tmp_path / "b" / "stdout").read_bytes()


@pytest.mark.torch
def test_endless_clock_reads_are_recorded_a_thousand_times_and_then_less_and_less(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import time
        import torch
        for _ in range(5000):
            time.time()  # loop
        time.time()  # behind it
        torch.ones(1)
        """,
        ["clock"],
    )
    found = [event["nth"] for event in uses_of(done, "clock") if event["line"] == done.line("loop")]
    assert found == [*range(1, 1001), 1024, 2048, 4096]
    assert marks(done, "clock")[-1] == ("time.time", "behind it")


NUMBERS = """
    import multiprocessing
    import os
    import subprocess
    import sys

    import torch

    def child(_item):
        return os.getpid(), multiprocessing.current_process().pid  # in a child

    if __name__ == "__main__":
        torch.ones(1)
        print(os.getpid())  # own
        os.getppid()  # the parent's
        multiprocessing.current_process().pid  # by its process
        for how in ("fork", "spawn"):
            with multiprocessing.get_context(how).Pool(1) as pool:
                own, same = pool.map(child, [0])[0]
                assert own == same
                pool.close()
                pool.join()
"""


@pytest.mark.torch
@pytest.mark.parametrize("how", ["watched", "pinned", "varied"])
def test_each_process_id_request_is_recorded_in_forked_and_spawned_children_too(how: str, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"watched": (), how: ["process-id"]}
    done = run(tmp_path, NUMBERS, **chosen)
    assert marks(done, "process-id") == [("os.getpid", "own"), ("os.getppid", "the parent's"), ("os.getpid", "by its process")]
    children = [lane for lane in done.trace.lanes if lane.startswith("process") and uses_of(done, "process-id", lane)]
    assert len(children) == 2, "one forked and one spawned process"
    for lane in children:
        assert marks(done, "process-id", lane) == [("os.getpid", "in a child")] * 2
    assert (int(done.out[0]) == done.trace.meta["pid"]) == (how == "watched")


ENTROPY = """
    import os
    import random
    import secrets
    import sys
    import tempfile
    import uuid
    from dataclasses import dataclass, field

    import multiprocessing.connection
    import numpy as np
    import torch

    sys.path.insert(0, "site-packages")
    import library

    @dataclass
    class Named:
        name: uuid.UUID = field(default_factory=uuid.uuid4)

    os.urandom(4)  # plain
    os.getrandom(4)  # the other
    secrets.token_hex()  # secrets
    uuid.uuid4()  # uuid
    random.SystemRandom().random()  # system
    np.random.default_rng()  # numpy
    Named()  # by a dataclass
    library.takes()  # by a library
    np.random.default_rng(0), random.random(), np.random.rand(), torch.rand(1)
    with tempfile.TemporaryDirectory():
        pass
    a, b = multiprocessing.Pipe()
    if os.fork() == 0:
        multiprocessing.connection.answer_challenge(b, b"key")
        os._exit(0)
    multiprocessing.connection.deliver_challenge(a, b"key")
    os.wait()
"""
TAKEN = [
    ("os.urandom", "plain"),
    ("os.getrandom", "the other"),
    ("os.urandom", "secrets"),
    ("os.urandom", "uuid"),
    ("os.urandom", "system"),
    ("os.urandom", "numpy"),
    ("os.urandom", "by a dataclass"),
    ("os.urandom", "by a library"),
]


@pytest.mark.torch
@pytest.mark.parametrize("how", ["watched", "pinned", "varied"])
def test_os_entropy_is_recorded_for_the_script_but_not_for_internal_use_of_libraries(how: str, tmp_path: Path) -> None:
    write(tmp_path / "site-packages", library="import os\nos.urandom(2)\ndef takes(): return os.urandom(3)")
    chosen: dict[str, Any] = {"watched": (), how: ["os-entropy"]}
    done = run(tmp_path, ENTROPY, **chosen)
    assert marks(done, "os-entropy") == TAKEN
    assert [event["asked_by"] for event in uses_of(done, "os-entropy")] == ["script"] * 7 + ["library"]


@pytest.mark.torch
def test_uses_of_locale_time_zone_and_temporary_folder_are_recorded(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import datetime
        import locale
        import os
        import shutil
        import tempfile
        import time

        import torch

        time.localtime(0)  # zone
        datetime.datetime.fromtimestamp(0)  # a naive date
        datetime.datetime.fromtimestamp(0, datetime.timezone.utc)  # a date that says where
        datetime.datetime(2020, 1, 1).timestamp()  # naive
        datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc).astimezone()  # to the zone here
        datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc).timestamp()  # not naive
        locale.getlocale()  # language
        locale.setlocale(locale.LC_ALL, "")  # taken
        locale.setlocale(locale.LC_ALL, "C")  # given
        sorted("ba", key=locale.strxfrm)  # sorted
        tempfile.gettempdir()  # folder
        with tempfile.TemporaryDirectory() as folder:  # made there
            pass
        with tempfile.TemporaryDirectory(dir="."):  # made here
            pass
        os.environ.get("LC_ALL"), os.getenv("TZ", "")  # variables
        os.environ.get("HOME"), {**os.environ}, os.environ.copy()  # others
        shutil.get_terminal_size()  # width
        torch.ones(1)
        """,
        ["environment"],
    )
    assert marks(done, "environment") == [
        ("time.localtime", "zone"),
        ("datetime.datetime.fromtimestamp", "a naive date"),
        ("datetime.datetime.timestamp", "naive"),
        ("datetime.datetime.astimezone", "to the zone here"),
        ("locale.getlocale", "language"),
        ("locale.setlocale", "taken"),
        ("locale.strxfrm", "sorted"),
        ("locale.strxfrm", "sorted"),
        ("tempfile.gettempdir", "folder"),
        ("tempfile.gettempdir", "made there"),
        ("os.environ LC_ALL", "variables"),
        ("os.environ TZ", "variables"),
        ("shutil.get_terminal_size", "width"),
    ]


@pytest.mark.torch
@pytest.mark.parametrize(("pinned", "varied"), [((), ()), (("environment",), ()), ((), ("environment",))])
def test_environment_reads_are_recorded_when_pinned_or_varied_too(pinned: Sequence[str], varied: Sequence[str], tmp_path: Path) -> None:
    source = "import time, torch\ntorch.ones(1)\ntime.localtime(0)  # zone"
    assert marks(run(tmp_path, source, ["environment"], pinned, varied), "environment") == [("time.localtime", "zone")]


THREADS = """
    import multiprocessing.pool
    import threading
    import time
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed

    import torch
    from torch.utils.data import DataLoader

    def read():
        time.time()  # in a thread

    if __name__ == "__main__":
        torch.ones(1)
        for _ in range(3):
            thread = threading.Thread(target=read)
            thread.start()  # started
            thread.join()
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(abs, k) for k in range(3)]  # submitted
            list(as_completed(futures))  # threads as they come
            list(pool.map(abs, range(3)))  # mapped
            list(as_completed(future for future in futures))  # not looked into
        with ProcessPoolExecutor(1) as pool:
            list(as_completed([pool.submit(abs, 1)]))  # processes as they come
        with multiprocessing.get_context("fork").Pool(1) as pool:
            pool.map(abs, range(3)), pool.apply_async(abs, (1,)).get()  # in order
            list(pool.imap_unordered(abs, range(3)))  # unordered
            pool.apply_async(abs, (1,), callback=print).get()  # called back
        for epoch in range(2):
            for batch in DataLoader(torch.arange(4), num_workers=1):  # loaded
                pass
            list(DataLoader(torch.arange(4)))  # without workers
"""


@pytest.mark.torch
@pytest.mark.parametrize("how", ["watched", "pinned", "varied"])
def test_lines_that_start_threads_or_take_unordered_results_are_recorded_once(how: str, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"watched": (), how: ["thread-timing", "worker-timing"]}
    done = run(tmp_path, THREADS, **chosen)
    assert marks(done, "thread-timing") == [
        ("threading.Thread.start", "started"),
        ("ThreadPoolExecutor.submit", "submitted"),
        ("concurrent.futures.as_completed", "threads as they come"),
        ("ThreadPoolExecutor.submit", "mapped"),
    ]
    assert marks(done, "worker-timing") == [
        ("concurrent.futures.as_completed", "processes as they come"),
        ("Pool.imap_unordered", "unordered"),
        ("Pool.apply_async", "called back"),
        ("DataLoader.__iter__", "loaded"),
    ]


@pytest.mark.torch
def test_reading_the_clock_gives_a_thread_without_ops_no_lane(tmp_path: Path) -> None:
    watched = run(tmp_path, THREADS, ["clock"])
    plain = run(tmp_path, THREADS, (), name="plain")
    # the number of threads of a pool is chance: a thread that is done takes the next task
    lanes = [[name for name, lane in one.trace.lanes.items() if not lane.events_of("task")] for one in (watched, plain)]
    assert lanes[0] == lanes[1]
    assert marks(watched, "clock") == [("time.time", "in a thread")] * 3
    assert [event["thread"] for event in uses_of(watched, "clock")] == [1, 2, 3]


@pytest.mark.torch
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_reads_in_a_loader_worker_are_recorded_in_its_lane(context: str, tmp_path: Path) -> None:
    done = run(
        tmp_path,
        f"""
        import os
        import time

        import torch
        from torch.utils.data import DataLoader, Dataset

        class Noise(Dataset):
            def __len__(self):
                return 4

            def __getitem__(self, index):
                return index + time.time() + os.getpid() + os.urandom(1)[0]  # item

        if __name__ == "__main__":
            for batch in DataLoader(Noise(), batch_size=2, num_workers=2, multiprocessing_context="{context}"):
                print(batch.sum())
        """,
    )
    for worker in range(2):
        lane = f"worker {worker}"
        for factor, function in (("clock", "time.time"), ("process-id", "os.getpid"), ("os-entropy", "os.urandom")):
            assert marks(done, factor, lane) == [(function, "item")] * 2
    assert uses_of(done, "clock") == []


@pytest.mark.torch
def test_a_directory_listing_is_recorded_as_a_file_event_with_its_line(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import glob
        import os
        from pathlib import Path

        import torch

        def names():
            return os.listdir("data")  # listdir

        os.makedirs("data/sub")
        names()
        list(os.scandir("data"))  # scandir
        glob.glob("data/*")  # glob
        list(Path("data").iterdir())  # iterdir
        list(Path("data").glob("*"))  # path glob
        list(os.walk("data/sub"))  # walk
        torch.ones(1)
        """,
    )
    lists = [event for event in done.events("file") if event["op"] == "list"]
    assert [event["line"] for event in lists] == [
        done.line(mark) for mark in ("listdir", "scandir", "glob", "iterdir", "path glob", "walk")
    ]
    assert {(event["file"], event["asked_by"]) for event in lists} == {("train.py", "script")}
    assert lists[0]["code"] == 'return os.listdir("data")  # listdir'


STEADY = """
    import datetime
    import inspect
    import os
    import pickle
    import random
    import secrets
    import tempfile
    import threading
    import time
    import uuid

    import numpy as np
    import torch
    from torch.utils.data import DataLoader

    def work():
        return time.perf_counter(), torch.ones(2).sum()

    if __name__ == "__main__":
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        before = time.time()
        print(os.getpid() == os.stat("/proc/self").st_ino or os.path.realpath("/proc/self") == f"/proc/{os.getpid()}")
        print(time.localtime(before).tm_year == datetime.datetime.now().year == datetime.date.today().year, time.time() >= before)
        print(len(os.urandom(5)), len(secrets.token_hex(3)), uuid.uuid4().version, os.urandom(16) != os.urandom(16))
        print(repr(time.time), repr(os.getpid), repr(datetime.datetime.fromtimestamp)[:30], inspect.signature(threading.Thread.start))
        for function in (time.time, time.strftime, tempfile.gettempdir):
            assert pickle.loads(pickle.dumps(function)) is function
        assert pickle.loads(pickle.dumps(os.getpid))() == os.getpid()
        class Day(datetime.datetime):
            pass
        print(type(Day.now()).__name__, type(Day.today()).__name__, Day.fromtimestamp(0, datetime.timezone.utc))
        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for batch in DataLoader(torch.randn(8, 3), batch_size=2, shuffle=True, num_workers=2):
            optimizer.zero_grad()
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            loss = model(batch + np.random.rand() + random.random()).sum()
            loss.backward()
            optimizer.step()
        print(loss.item())
        try:
            os.urandom(-1)
        except ValueError as error:
            print(error)
"""


@pytest.mark.torch
def test_watching_factors_does_not_change_a_run(tmp_path: Path) -> None:
    plain = run(tmp_path, STEADY, (), name="plain")
    watched = run(tmp_path, STEADY, name="watched")
    compared = compare(plain.trace, watched.trace)
    assert compared.divergence is None, compared.divergence
    assert compared.compared > 50
    assert compared.notes == []
    assert watched.out == plain.out
    assert plain.events("entered") == []
    assert {event["factor"] for event in watched.events("entered")} == set(WATCHED)
    assert (watched.trace.path / "stderr").read_bytes() == (plain.trace.path / "stderr").read_bytes() == b""


@pytest.mark.torch
def test_watching_factors_does_not_change_compiled_code(tmp_path: Path) -> None:
    source = """
        import os
        import time

        import torch

        def scaled(x):
            return (x * len(os.urandom(2)) + len(time.strftime("%Y"))).sum()  # compiled

        torch.manual_seed(0)
        compiled = torch.compile(scaled, backend="eager")
        print([compiled(torch.randn(3)).item() for _ in range(3)])
    """
    plain, watched = run(tmp_path, source, (), name="plain"), run(tmp_path, source, name="watched")
    assert compare(plain.trace, watched.trace).divergence is None
    assert watched.out == plain.out
    assert marks(watched, "os-entropy") == [("os.urandom", "compiled")] * 3
    assert marks(watched, "clock") == [("time.strftime", "compiled")] * 3


@pytest.mark.torch
def test_uses_of_factors_are_shown_and_can_be_queried(tmp_path: Path) -> None:
    code = "seed = time.time()  # seed"
    done = run(tmp_path, f"import time, torch\n{code}\ntorch.ones(1)", ["clock"])
    out = io.StringIO()
    print_listing(listing(done.trace, kinds=["entered"]), out)
    (line,) = out.getvalue().splitlines()[1:]
    assert line.split() == ["0", "0", "entered", "time.time", "clock", "nth", "1", "asked_by", "script", "train.py:2", *code.split()]
    found = Tables(done.trace).query("SELECT op, factor, asked_by, file, line FROM events WHERE kind = 'entered'")
    assert found == [{"op": "time.time", "factor": "clock", "asked_by": "script", "file": "train.py", "line": 2}]


def test_watched_factors_are_those_that_are_neither_pinned_nor_varied() -> None:
    plan = plan_with(
        Plan(("train.py",)), FACTORS, ["clock"], ["process-id"], ["clock", "process-id", "os-entropy", "torch-seed", "hash-seed"]
    )
    assert plan.within == (("clock", "pin"), ("process-id", "vary"), ("os-entropy", "watch"))
    assert (plan.pinned, plan.varied) == (("clock",), ("process-id",))


@pytest.mark.parametrize("name", WATCHED)
def test_a_watchable_factor_has_code_for_the_users_process(name: str) -> None:
    assert FACTORS[name].inside is not None


@pytest.mark.torch
def test_uninitialized_memory_is_traced_back_to_its_allocation(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import numpy as np
        import torch

        def buffer(n):
            return torch.empty(n)  # made

        def as_numpy(n):
            return torch.from_numpy(np.empty(n))  # made by numpy

        rows = buffer(6).view(2, 3)
        rows.sum()  # read
        torch.empty_like(rows).add(1)  # made and read
        as_numpy(3).sum()  # read of numpy's
        """,
        (),
    )
    (made,) = done.inputs(done.op("read", "sum.default"))
    assert (made.op, made.file, made.line, made.function) == ("aten.empty.memory_format", "train.py", done.line("made"), "buffer")
    (made,) = done.inputs(done.op("made and read", "add.Tensor"))
    assert (made.op, made.line) == ("aten.empty_like.default", done.line("made and read"))
    # NumPy's is recorded as an external tensor: no op made it, and whether it was written cannot be known
    (made,) = done.inputs(done.op("read of numpy's", "sum.default"))
    assert (made.kind, made.inputs, made.line) == ("external", [], done.line("made by numpy"))
