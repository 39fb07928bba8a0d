"""Runs that meet at a port, and runs that hang: observed from outside, and ended with all their processes."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

import auditor.launch
from auditor.launch import launch
from auditor.launch.processes import Stall
from auditor.pipeline.reruns import Silent
from auditor.plan import Plan
from auditor.trace.reader import opened
from tests.processes import write


def test_a_run_stalls_without_records_output_processes_or_cpu_time_for_the_limit() -> None:
    began = round(time.monotonic())  # whole seconds: their differences are exact
    stall = Stall(30.0)
    ticks = [began + second for second in range(200)]
    assert not any(stall.seen(now, "the same", 0.001 * k) for k, now in enumerate(ticks[:30]))
    assert not stall.seen(ticks[30], "another", 0.03)
    assert not any(stall.seen(now, "another", 0.03) for now in ticks[31:61])
    assert stall.seen(ticks[61], "another", 0.03)


def test_computing_counts_as_progress_and_so_does_time_without_checks() -> None:
    began = time.monotonic()
    stall = Stall(30.0)
    assert not any(stall.seen(began + k, "the same", 0.02 * k) for k in range(300))
    stall = Stall(30.0)
    assert not stall.seen(began, "the same", 0.0)
    assert not stall.seen(began + 500, "the same", 0.0)


def test_a_run_that_hangs_is_ended_with_its_processes_and_its_port_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    write(
        tmp_path,
        train=f"""
        import socket, subprocess, sys, time
        meeting = socket.socket()
        meeting.bind(("127.0.0.1", {port}))
        meeting.listen()
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(other.pid, flush=True)
        meeting.accept()
        """,
    )
    monkeypatch.setattr(auditor.launch, "_STALL_SECONDS", 4.0)
    launch(Plan(("train.py",), cwd=str(tmp_path)), tmp_path / "run", "run", "experiment", Silent(), quiet=True, usual=0.5)
    trace = opened(tmp_path / "run")
    assert trace.meta["stopped"] == "stalled"
    assert trace.meta["ports"] == [f"listens {port}"]
    status = Path("/proc", (tmp_path / "run" / "stdout").read_text().strip(), "status")
    assert not status.exists() or "State:\tZ" in status.read_text()  # it may not have been reaped yet


def test_a_run_that_sleeps_as_long_as_a_whole_run_is_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, train="import time\ntime.sleep(4)\n")
    monkeypatch.setattr(auditor.launch, "_STALL_SECONDS", 1.0)
    outcome = launch(Plan(("train.py",), cwd=str(tmp_path)), tmp_path / "run", "run", "experiment", Silent(), quiet=True, usual=4.2)
    assert (outcome.exit, outcome.stopped) == (0, None)
