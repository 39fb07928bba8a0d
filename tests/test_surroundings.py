"""Unusual environments of the auditor: at most one sentence, no traceback of ours, and nothing recorded is lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditor import pipeline
from auditor.config import Config, read_config
from auditor.errors import UsageError
from auditor.judge import read_baseline
from auditor.report.json import read
from auditor.report.words.reasons import text_of
from auditor.trace.reader import opened
from tests.builder import TraceBuilder
from tests.processes import Ended, audited, environment, write

STEADY = "import torch\ntorch.ones(4321).exp()\n"


def sentence(done: Ended) -> str:
    """The last line of stderr, without a traceback of ours."""
    assert "Traceback" not in done.said, done.said
    assert "internal-error" not in done.said, done.said
    return done.said.splitlines()[-1] if done.said else ""


@pytest.mark.torch
def test_names_that_are_not_utf_8_are_shown_as_far_as_possible(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 [1]")
    write(folder, train=STEADY + 'open(b"d\\xff.csv", "w").write("x")\nopen(b"d\\xff.csv").read()\n')
    script = os.fsdecode(b"tr\xe9.py")
    (folder / "train.py").rename(folder / script)
    done = audited(folder, "--effort", "compare", "-o", "runs", "--json", "a.json", "--markdown", "a.md", script)
    assert done.status == 0, done.said
    sentence(done)
    assert json.loads((folder / "a.json").read_text())["verdict"] == "no-divergence-seen"
    shown = audited(folder, "show", "runs/control-1", "--kind", "op", "--kind", "file")
    assert b"float32[4321]" in shown.out
    assert rb"d\xff.csv" in shown.out or rb"d\udcff.csv" in shown.out
    asked = audited(folder, "query", "runs/control-1", "SELECT path FROM events WHERE kind = 'file'")
    assert asked.status == 0, asked.said
    assert b"csv" in asked.out


@pytest.mark.torch
def test_an_audit_works_without_a_home_and_with_closed_streams(tmp_path: Path) -> None:
    write(tmp_path, train=STEADY)
    (tmp_path / "tmp").mkdir()
    home = environment(HOME=None, XDG_CACHE_HOME=None, XDG_CONFIG_HOME=None, TMPDIR=str(tmp_path / "tmp"))
    command = [sys.executable, "-m", "auditor", "--effort", "compare", "-o", "runs", "--json", "a.json", "train.py"]
    closing = f"exec {' '.join(map(str, command))} <&- >&- 2>&-"
    done = subprocess.run(["/bin/sh", "-c", closing], cwd=tmp_path, env=home, timeout=240, check=False)
    assert done.returncode == 0
    assert json.loads((tmp_path / "a.json").read_text())["verdict"] == "no-divergence-seen"
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.torch
def test_a_script_that_removes_its_folder_ends_the_audit_with_a_kept_run(tmp_path: Path) -> None:
    write(tmp_path / "work", train=STEADY + "import os, shutil; shutil.rmtree(os.getcwd())\n")
    done = audited(tmp_path / "work", "--effort", "compare", "-o", str(tmp_path / "runs"), "train.py")
    assert done.status == 2
    assert sentence(done).endswith("[folder-gone]")
    assert opened(tmp_path / "runs" / "control-1").main is not None


@pytest.mark.torch
@pytest.mark.parametrize("room", [1 << 10, 40 << 10])
def test_a_limit_on_file_sizes_is_reported(room: int, tmp_path: Path) -> None:
    write(tmp_path, train=STEADY)
    done = audited(tmp_path, "record", "-o", "run", "train.py", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
    assert done.status == 2
    assert sentence(done).endswith(("[disk-full]", "[run-unwritable]", "[seal-failed]")), done.said


@pytest.mark.torch
def test_a_run_lasts_as_long_as_its_process_and_has_no_end_if_the_auditor_was_killed(tmp_path: Path) -> None:
    write(
        tmp_path,
        train=STEADY + 'import os, pathlib, time; pathlib.Path("began").write_text(str(os.getpid())); time.sleep(600)\n',
    )
    run, began = tmp_path / "run", tmp_path / "began"
    child = subprocess.Popen(
        [sys.executable, "-m", "auditor", "record", "-o", "run", "train.py"], cwd=tmp_path, env=environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not (began.exists() and began.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    script = int(began.read_text())
    try:
        spooled = sorted(path.name for path in (run / "spool").rglob("*"))
        assert opened(run).unfinished == "still-going"
        child.kill()
        child.wait(60)
        shown = audited(tmp_path, "show", "run", "--op", "aten.exp.default")  # the script continues without its auditor
        assert shown.status == 0, shown.said
        assert b"float32[4321]" in shown.out
        assert shown.out.splitlines()[-1] == b"run is still running"
        assert pipeline.diff(run, run).verdict == "inconclusive"
        assert sorted(path.name for path in (run / "spool").rglob("*")) == spooled
        assert not (run / "lanes").exists()
    finally:
        os.kill(script, signal.SIGKILL)
    while Path(f"/proc/{script}").exists():
        time.sleep(0.05)
    audit = pipeline.diff(run, run)
    assert audit.verdict == "inconclusive"
    assert "[unfinished]" in text_of(audit.reason)
    assert pipeline.events(run).unfinished == "run is incomplete: repro-audit was killed before the script ended"
    assert not (run / "spool").exists()


def test_a_run_with_its_end_is_reported_as_complete(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "run", launcher={"pid": os.getpid()})
    run.lane().op("aten.exp.default")
    run.sealed()
    assert pipeline.events(tmp_path / "run").unfinished is None
    assert pipeline.diff(tmp_path / "run", tmp_path / "run").verdict == "no-divergence-seen"


_CYCLE = "a: &a [*a]\n"
_ALIASES = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text", [_CYCLE, _ALIASES, "[" * 100_000, "x: " + "{a: " * 3_000], ids=["cycle", "aliases", "deep", "deep mapping"]
)
def test_reading_a_rule_file_takes_time_proportional_to_its_length(text: str, tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text(text)
    began = time.process_time()
    with pytest.raises(UsageError) as error:
        pipeline.all_rules([tmp_path])
    assert "rule.yaml" in str(error.value)
    assert time.process_time() - began < 20


@pytest.mark.parametrize("ask", [read, read_baseline], ids=["audit", "baseline"])
def test_deeply_nested_json_is_refused(ask: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(UsageError) as error:
        ask(tmp_path / "deep.json")
    assert "deep.json" in str(error.value)


@pytest.mark.parametrize("text", ["tool = 1\n", "tool = []\n", "[tool]\nother = 1\n"])
def test_a_pyproject_without_our_table_is_ignored_silently(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert read_config(tmp_path) == Config()


def test_a_pipe_in_place_of_a_configuration_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pyproject.toml")
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        read_config(tmp_path)


def test_a_kept_run_is_not_written_through_a_link_and_its_paths_are_not_read(tmp_path: Path) -> None:
    def spooled(name: str) -> Path:
        run = TraceBuilder(tmp_path / name, cwd=str(tmp_path / "home"))
        lane = run.lane()
        lane.file = str(tmp_path / "home" / "secret.py")
        lane.op("aten.exp.default", line=1)
        return run.spooled()

    write(tmp_path / "home", secret="the secret")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "kept").write_text("x")
    assert [event.code for event in pipeline.events(spooled("plain")).events] == [""]
    linked = spooled("linked")
    (linked / "lanes").symlink_to(tmp_path / "victim")
    with pytest.raises(Exception, match="trace-foreign"):
        pipeline.events(linked)
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["kept"]
    shutil.move(tmp_path / "linked" / "spool", tmp_path / "elsewhere")
    (linked / "lanes").unlink()
    (linked / "spool").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="trace-foreign"):
        pipeline.events(linked)
    assert (tmp_path / "elsewhere").exists()
