"""The search for causes in difficult scripts: whole audits of scripts that fail in their own ways."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from auditor.experiment import runs_needed, wilson
from auditor.report.words.reasons import sentence_of, text_of
from auditor.results import Audit
from tests.processes import PATIENCE, audited, environment, line_of, write

pytestmark = pytest.mark.torch

#: Number of the run, counted in a folder outside the working directory; two concurrent runs get two numbers.
COUNTED = """
import itertools, os, random, torch
for number in itertools.count(1):
    try:
        os.makedirs(os.path.join(os.environ["COUNT"], str(number)))
        break
    except FileExistsError:
        pass
torch.manual_seed(0)
x = torch.ones(4)
"""


def searched(folder: Path, source: str, *words: str, **variables: str) -> tuple[Audit, str]:
    """The audit of a script in a folder of its own, and its stderr."""
    write(folder / "work", train=source)
    env = environment(PYTHONHASHSEED=None, COUNT=str(folder / "count"), **variables)
    done = audited(folder / "work", "--json", "../a.json", *words, "train.py", env=env)
    assert (folder / "a.json").exists(), done.said
    return Audit.model_validate_json((folder / "a.json").read_text()), done.said


def names(audit: Audit, stem: str) -> list[str]:
    """The names of the runs of a kind."""
    return [run.id for run in audit.runs if run.id.rpartition("-")[0] == stem]


def test_a_script_that_binds_a_port_and_breaks_under_two_factors_still_gets_a_cause(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = f"""
        import os, socket, time
        server = socket.socket()
        server.bind(("127.0.0.1", {port}))
        server.listen()
        import torch  # for so long it has the port
        assert time.time() > 1704067200, "the clock is wrong"
        assert os.path.exists(f"/proc/{{os.getpid()}}"), "nobody is here"
        model = torch.nn.Linear(4, 1)  # enters
        model(torch.ones(2, 4)).sum().backward()
    """

    audit, _ = searched(tmp_path, source)

    assert [(cause.factor, cause.line, cause.proved) for cause in audit.causes] == [("torch-seed", line_of(source, "# enters"), True)]
    assert f"each run uses port {port}, so runs were made one at a time" in map(text_of, audit.notes)
    assert audit.search is not None
    assert text_of(audit.search.left_out["clock"]) == "the script fails with it: AssertionError: the clock is wrong"
    assert text_of(audit.search.left_out["process-id"]) == "the script fails with it: AssertionError: nobody is here"
    assert not {"clock", "process-id"} & set(audit.search.pinned)
    assert "hash-seed" in audit.search.pinned
    assert audit.divergence is not None
    assert audit.divergence.intermittent is None


def test_three_independent_causes_are_proved_each_with_its_own_line(tmp_path: Path) -> None:
    source = """
        import time
        import torch
        kinds = {"cat", "dog", "cow", "hen", "pig", "yak"}
        ids = {name: k for k, name in enumerate(kinds)}  # order
        labels = torch.tensor([ids[name] for name in ("cat", "hen", "pig", "yak")])
        began = time.time()  # clock
        warmth = torch.ones(4) * (began % 1)
        model = torch.nn.Linear(4, 1)  # seed
        model(labels + warmth).square().sum().backward()
    """

    audit, _ = searched(tmp_path, source)

    found = {cause.factor: (cause.line, cause.proved, cause.grade) for cause in audit.causes}
    assert found == {
        "hash-seed": (line_of(source, "# order"), True, "logical"),
        "clock": (line_of(source, "# clock"), True, "logical"),
        "torch-seed": (line_of(source, "# seed"), True, "logical"),
    }
    runs = {run.id: run for run in audit.runs}
    for cause in audit.causes:
        held = [runs[name] for name in cause.proof if cause.factor in runs[name].pinned]
        freed = [runs[name] for name in cause.proof if "process-id" in runs[name].pinned and cause.factor not in runs[name].pinned]
        assert (len(held), len(freed)) == (2, 2), cause.factor
    assert len(audit.runs) <= 15


def test_a_run_that_fails_because_of_a_leftover_file_names_the_failing_line(tmp_path: Path) -> None:
    source = """
        import os
        import torch
        torch.manual_seed(0)
        x = torch.ones(3)
        os.makedirs("out")  # enters
        torch.save(x.exp(), "out/x.pt")
    """

    audit, _ = searched(tmp_path, source)

    assert audit.divergence is not None
    assert audit.divergence.kind == "failed"
    (cause,) = audit.causes
    assert (cause.factor, cause.proved, cause.line) == ("leftover-files", True, line_of(source, "# enters"))
    assert len(audit.runs) <= 8
    assert sorted(os.listdir(tmp_path / "work")) == ["out", "train.py"]


@pytest.mark.parametrize(("controls", "every", "proved"), [(6, 2, True), (3, 4, False)])
def test_an_intermittent_fault_has_a_rate_and_a_proof_with_enough_runs(controls: int, every: int, proved: bool, tmp_path: Path) -> None:
    source = COUNTED + textwrap.dedent(f"""
        if number % {every} == 2 % {every} and "PYTHONHASHSEED" not in os.environ:
            x = x * 2
        print(x.sum())
    """)

    audit, _ = searched(tmp_path, source, "--runs", str(controls))

    assert audit.divergence is not None
    often = audit.divergence.intermittent
    assert often is not None
    assert often.apart is not None
    free = len([run for run in audit.runs if run.role in ("control", "look")])
    assert free >= controls
    apart = len([number for number in range(1, free + 1) if number % every == 2 % every])
    assert (often.apart, often.others) == (apart, free - 1)
    assert (often.low, often.high) == wilson(apart, free - 1)
    (cause,) = audit.causes
    assert (cause.factor, cause.proved) == ("hash-seed", proved)
    held = names(audit, "pin-hash-seed")
    assert set(held) <= set(cause.proof)
    if proved:
        assert len(held) >= runs_needed(apart, free - 1) > 2
    else:
        assert f"{len(held)} runs that agree may be chance at this rate; use --runs " in sentence_of(cause.reasons)
        assert len(held) < runs_needed(apart, free - 1)


def test_controls_that_agree_by_chance_are_repeated_and_varied_factors_not_blamed(tmp_path: Path) -> None:
    source = COUNTED + textwrap.dedent("""
        if number > 2:
            x = x * random.random()  # enters
        print(x.sum())
    """)

    audit, _ = searched(tmp_path, source)

    assert audit.verdict == "diverged"
    assert audit.divergence is not None
    assert audit.divergence.runs == ["control-1", "control-3"]
    assert audit.divergence.intermittent is not None
    assert audit.divergence.intermittent.groups[0] == ["control-1", "control-2"]
    (cause,) = audit.causes
    assert (cause.factor, cause.proved, cause.line) == ("python-seed", True, line_of(source, "# enters"))


def test_an_interrupted_search_ends_both_runs_and_keeps_only_what_was_recorded(tmp_path: Path) -> None:
    source = COUNTED + textwrap.dedent("""
        import time
        x = x * random.random()
        if number > 2:
            with open(os.path.join(os.environ["COUNT"], str(number), "pid"), "w") as file:
                file.write(str(os.getpid()))
            while True:  # a run that makes no progress would be ended
                time.sleep(0.1)
                x + 1
    """)
    write(tmp_path / "work", train=source)
    child = subprocess.Popen(
        [sys.executable, "-m", "auditor", "-o", "../runs", "train.py"], cwd=tmp_path / "work", start_new_session=True,
        env=environment(COUNT=str(tmp_path / "count")), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        began = [tmp_path / "count" / str(number) / "pid" for number in (3, 4)]
        until(lambda: all(path.exists() and path.read_text() for path in began))
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=PATIENCE)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130
    assert "[interrupted]" in err.decode().splitlines()[-1]
    for path in began:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
    assert sorted(os.listdir(tmp_path / "runs")) == ["control-1", "control-2", "pin-python-seed-1", "pin-python-seed-2"]
    for run in (tmp_path / "runs").iterdir():
        shown = audited(tmp_path, "show", str(run), "--op", "aten.mul.Tensor")
        assert b"aten.mul.Tensor" in shown.out, shown.said
    assert os.listdir(tmp_path / "work") == ["train.py"]


def until(true: Any) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
