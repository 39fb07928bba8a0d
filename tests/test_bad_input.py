"""Bad input, failing scripts and broken traces: each gives one clear sentence with a slug and the right status, and loses nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from auditor.launch import new_folder
from auditor.plan import Plan
from auditor.report.words.reasons import sentence_of, text_of
from auditor.results import Audit
from auditor.trace.reader import opened
from tests.processes import Ended, audited, bare, ended_by, environment, kept, made_once, record_of, write

STEADY = """
    import torch
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    print("done")
    """


def sentence(done: Ended, slug: str) -> str:
    """The sentence at the end of stderr; it has the slug, and no traceback of ours precedes it."""
    ours = [line for line in done.said.splitlines() if line.startswith("repro-audit: ")]
    assert ours, done.said
    assert ours[-1].endswith(f"[{slug}]"), done.said
    assert "auditor/" not in done.said.replace("repro-audit/", ""), done.said
    return ours[-1]


def audit_of(folder: Path, *words: str, **how: Any) -> tuple[Audit, Ended]:
    """Audit a script in a folder without a search for causes; the runs are kept in `runs` beside it."""
    out = folder / "audit.json"
    done = audited(folder, "--effort", "compare", "-o", "runs", "--json", str(out), *words, **how)
    return Audit.model_validate_json(out.read_text()), done


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of a steady script."""
    folder, name = made_once(tmp_path_factory, "steady", lambda folder: record_of(folder, "train", STEADY).path.name)
    return folder / str(name)


def copied(run: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


# Bad command lines


@pytest.mark.parametrize(
    ("words", "slug", "said"),
    [
        (["trian.py"], "no-such-script", "did you mean train.py?"),
        (["nothing/at-all.py"], "no-such-script", "there is no script nothing/at-all.py"),
        (["record", "-o", "run", "trian.py"], "no-such-script", "did you mean train.py?"),
        (["record", "-o", "run"], "no-script", "no script was given"),
        (["-m"], "no-script", "script"),
        (["record", "-o", "train.py", "train.py"], "run-exists", "train.py"),
        (["-o", ".", "train.py"], "run-exists", ". exists and is not an empty directory"),
        (["-o", "train.py", "train.py"], "run-exists", "train.py exists"),
        (["-o", "train.py/x", "train.py"], "run-unwritable", "/train.py/x/control-1: Not a directory"),
        (["record", "-o", "train.py/x", "train.py"], "run-unwritable", "cannot write to train.py/x"),
        (["record", "-o", "run", "--level", "loud", "train.py"], "no-such-level", "--level loud"),
        (["record", "-o", "run", "--window", "3", "train.py"], "bad-window", "--window 3"),
        (["record", "-o", "run", "--window", "4:2", "train.py"], "bad-window", "--window 4:2"),
        (["--fail-on", "all", "train.py"], "bad-fail-on", "--fail-on all"),
        (["--json", "no/such/folder/audit.json", "train.py"], "output-unwritable", "no/such/folder/audit.json"),
        (["--json", ".", "train.py"], "output-unwritable", "cannot write ."),
        (["--markdown", "train.py/report.md", "train.py"], "output-unwritable", "train.py/report.md"),
        (["--python", "no-python", "train.py"], "cannot-start", "no-python"),
        (["diff", "no-run", "no-run"], "trace-missing", "there is no run at no-run"),
        (["show", "no-run"], "trace-missing", "there is no run at no-run"),
        (["show", "train.py"], "trace-missing", "there is no run at train.py"),
        (["report", "no-audit.json"], "audit-unreadable", "no-audit.json"),
        (["report", "train.py"], "audit-unreadable", "train.py"),
    ],
)  # fmt: skip
def test_an_impossible_request_is_refused_in_one_sentence_before_anything_runs(
    words: list[str], slug: str, said: str, tmp_path: Path
) -> None:
    write(tmp_path, train="from pathlib import Path; Path('it-ran').touch()")
    done = audited(tmp_path, *words)
    assert done.status == 2
    assert said in sentence(done, slug)
    assert not (tmp_path / "it-ran").exists()
    assert done.out == b""


@pytest.mark.parametrize(
    "words", [["--no-such-option", "train.py"], ["--steps", "none", "train.py"], ["record", "train.py"], ["diff", "one"], ["show"]]
)
def test_wrong_usage_ends_with_status_2(words: list[str], tmp_path: Path) -> None:
    write(tmp_path, train="from pathlib import Path; Path('it-ran').touch()")
    done = audited(tmp_path, *words)
    assert done.status == 2
    assert "Usage: " in done.said
    assert "Traceback" not in done.said
    assert not (tmp_path / "it-ran").exists()


def test_an_output_that_cannot_be_written_leaves_no_empty_file(tmp_path: Path) -> None:
    write(tmp_path, train="print('runs')")
    audited(tmp_path, "--json", "audit.json", "--markdown", "no/report.md", "train.py")
    assert not (tmp_path / "audit.json").exists()


# Nothing was recorded


def test_a_script_that_never_imports_torch_does_not_pass(tmp_path: Path) -> None:
    write(tmp_path, train="print('no torch here')")
    audit, done = audit_of(tmp_path, "train.py")
    assert (audit.verdict, done.status) == ("inconclusive", 2)
    assert audit.reason is not None
    assert text_of(audit.reason).endswith("the script never imported torch [torch-never-imported]")
    done = audited(tmp_path, "record", "-o", "run", "train.py")
    assert done.status == 2
    assert "what there is of the run is in run" in sentence(done, "torch-never-imported")
    assert kept(tmp_path / "run").out == b"no torch here\n"


@pytest.mark.torch
def test_a_script_that_runs_no_op_does_not_pass(tmp_path: Path) -> None:
    write(tmp_path, train="import torch; print(torch.__version__)")
    audit, done = audit_of(tmp_path, "train.py")
    assert (audit.verdict, done.status) == ("inconclusive", 2)
    assert text_of(audit.reason).endswith("[no-ops]")


def test_a_script_that_fails_before_importing_torch_is_reported_with_its_error(tmp_path: Path) -> None:
    write(tmp_path, train="import no_such_module_at_all")
    audit, done = audit_of(tmp_path, "train.py")
    assert (audit.verdict, done.status) == ("inconclusive", 2)
    assert "ModuleNotFoundError: No module named 'no_such_module_at_all'" in text_of(audit.reason)
    assert done.said.count("Traceback") == 1


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_an_interpreter_that_ignores_the_recorder_does_not_pass(flag: str, tmp_path: Path) -> None:
    write(tmp_path, train="import sys; print(sys.flags.isolated, sys.flags.ignore_environment, sys.flags.no_site)")
    wrapper = tmp_path / "python-alone"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" {flag} "$@"\n')
    wrapper.chmod(0o755)
    audit, done = audit_of(tmp_path, "--python", str(wrapper), "train.py")
    assert (audit.verdict, done.status) == ("inconclusive", 2)
    assert "[recorder-not-armed]" in text_of(audit.reason)
    assert str(wrapper) in text_of(audit.reason)
    assert "1" in kept(tmp_path / "runs" / "control-1").out.decode()


def test_an_interpreter_without_the_auditor_runs_the_script_and_does_not_pass(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "other")], check=True)
    write(tmp_path, train="import sys; print('ran', sys.prefix)")
    other = tmp_path / "other" / "bin" / "python"
    audit, done = audit_of(tmp_path, "--python", str(other), "train.py")
    assert (audit.verdict, done.status) == ("inconclusive", 2)
    assert "[recorder-not-armed]" in text_of(audit.reason)
    assert kept(tmp_path / "runs" / "control-1") == Ended(0, f"ran {tmp_path / 'other'}\n".encode(), b"")


# The script fails


@pytest.mark.torch
def test_a_script_that_fails_in_both_runs_shows_its_traceback_once(tmp_path: Path) -> None:
    write(tmp_path, train="import torch\nx = torch.ones(3)\nprint(x.sum().item())\nraise ValueError('no data')")
    without = bare(tmp_path, "train.py")
    audit, done = audit_of(tmp_path, "train.py")
    assert (audit.verdict, done.status) == ("inconclusive", 2)
    assert text_of(audit.reason).endswith("the script fails in both runs in the same way: ValueError: no data [script-failed]")
    assert done.said.count(without.said) == done.said.count("Traceback") == 1
    assert done.out.startswith(without.out)
    assert [(run.exit, run.error) for run in audit.runs] == [(1, "ValueError: no data")] * 2
    assert audit.coverage.ops > 0


@pytest.mark.torch
def test_a_script_that_fails_in_one_run_only_has_diverged(tmp_path: Path) -> None:
    source = """
        import pathlib, torch
        torch.manual_seed(0)
        x = torch.randn(3)
        mark = pathlib.Path("first-run-was-here")
        if mark.is_file():
            raise RuntimeError("second time")
        mark.touch()
        """
    write(tmp_path, train=source)
    audit, done = audit_of(tmp_path, "train.py")
    assert (audit.verdict, done.status) == ("diverged", 1)
    assert audit.divergence is not None
    assert audit.divergence.kind == "failed"
    assert "RuntimeError: second time" in sentence_of(audit.divergence.reasons)
    assert [run.exit for run in audit.runs[:2]] == [0, 1]


@pytest.mark.torch
def test_a_script_that_fails_in_one_run_before_importing_torch_has_diverged(tmp_path: Path) -> None:
    source = """
        import pathlib
        mark = pathlib.Path("first-run-was-here")
        if mark.is_file():
            raise RuntimeError("second time")
        mark.touch()
        import torch
        torch.ones(3).sum()
        """
    write(tmp_path, train=source)
    audit, done = audit_of(tmp_path, "train.py")
    assert (audit.verdict, done.status) == ("diverged", 1)
    assert "RuntimeError: second time" in (sentence_of(audit.divergence.reasons) if audit.divergence else "")


ENDINGS = {
    "os._exit": ("os._exit(0)", 0, "no-divergence-seen", 0),
    "os._exit with a status": ("os._exit(4)", 4, "inconclusive", 2),
    "kill -9": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "inconclusive", 2),
    "a segmentation fault": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, "inconclusive", 2),
    "chdir": ("os.chdir('/'); torch.ones(7)", 0, "no-divergence-seen", 0),
    "fork": ("\nif not os.fork():\n    torch.ones(5).exp(); os._exit(0)\nos.wait()", 0, "no-divergence-seen", 0),
    "its own hook": ("sys.excepthook = lambda *a: print('hooked', flush=True); 1 / 0", 1, "inconclusive", 2),
    "a clean exit": ("sys.exit(0)", 0, "no-divergence-seen", 0),
}


@pytest.mark.torch
@pytest.mark.parametrize(("how", "exit_", "verdict", "status"), [pytest.param(*case, id=name) for name, case in ENDINGS.items()])
def test_records_before_an_abrupt_end_are_kept_and_compared(how: str, exit_: int, verdict: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        f"import os, signal, sys, torch\nx = torch.arange(1000.0).exp().sum()\nprint('x', flush=True)\n{how}\n"
    )
    # test_fidelity checks that they are those of plain Python
    audit, done = audit_of(tmp_path, "train.py")
    assert (audit.verdict, done.status) == (verdict, status), done.said
    assert [run.exit for run in audit.runs] == [exit_, exit_]
    first = opened(tmp_path / "runs" / "control-1")
    assert first.main is not None
    assert "aten.exp.default" in [row.op for row in first.main.rows(0, 10)]
    if "_exit(0)" in how and "fork" not in how:
        assert any("os._exit" in text_of(lost.what) for lost in audit.coverage.lost)


@pytest.mark.torch
def test_the_last_step_of_a_killed_script_is_shown(tmp_path: Path) -> None:
    write(tmp_path, train=STEADY.replace('print("done")', "import os; x = torch.ones(1234).cumsum(0); os.kill(os.getpid(), 9)"))
    done = audited(tmp_path, "record", "-o", "run", "train.py")
    assert done.status == 128 + signal.SIGKILL
    assert "the script ended with status -9" in sentence(done, "script-failed")
    shown = audited(tmp_path, "show", "run", "--op", "aten.cumsum*")
    assert shown.status == 0
    assert b"float32[1234]" in shown.out


@pytest.mark.torch
def test_a_script_that_removes_its_run_directory_gets_one_sentence(tmp_path: Path) -> None:
    source = """
        import json, os, shutil, torch
        x = torch.ones(3).sum()
        shutil.rmtree(json.loads(open("/proc/self/environ").read().partition("REPRO_AUDIT=")[2].partition("\\0")[0])["run"])
        for _ in range(10_000):
            x = x + 1
        print(x.item())
        """
    write(tmp_path, train=source)
    done = audited(tmp_path, "-o", "runs", "train.py")
    assert done.status == 2
    assert done.out == b"10003.0\n"
    assert "was removed while the script ran" in sentence(done, "run-directory-gone")


# The disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Any:
    """A read-only folder with a script that trains."""
    folder = tmp_path / "given"
    folder.mkdir()
    source = """
        import torch
        torch.manual_seed(0)
        w = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            (w - torch.randn(3)).square().sum().backward()
            optimizer.step()
        """
    write(folder, train=source)
    mounted = subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a folder: {mounted.stderr.decode().strip()}")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.torch
def test_a_script_in_a_read_only_folder_is_audited(read_only: Path, tmp_path: Path) -> None:
    nowhere = {"XDG_CACHE_HOME": str(read_only / "cache"), "HOME": str(read_only), "TMPDIR": str(tmp_path)}
    done = audited(read_only, "--effort", "compare", "-v", "train.py", env=environment(**nowhere))
    assert done.status == 0, done.said
    assert b"NO DIVERGENCE SEEN" in done.out
    (kept,) = tmp_path.glob("repro-audit-*")
    assert str(kept).encode() in done.out, "runs go elsewhere if the cache is not writable"
    refused = audited(read_only, "record", "-o", "run", "train.py")
    assert refused.status == 2
    assert "Read-only" in sentence(refused, "run-unwritable")


def _fill(fd: int) -> None:
    while True:
        os.write(fd, b"x" * 4096)


@pytest.mark.torch
def test_a_disk_that_fills_up_ends_the_recording_but_not_the_script(small_disk: Path, tmp_path: Path) -> None:
    write(tmp_path, train="import torch\nx = torch.zeros(3)\nfor k in range(60_000): x = x + 1\nprint(x[0].item())")
    done = audited(tmp_path, "record", "-o", str(small_disk / "run"), "train.py")
    assert done.out == b"60000.0\n"
    assert done.status == 2
    assert "space" in sentence(done, "disk-full")
    audit = audited(tmp_path, "--effort", "compare", "-o", str(small_disk / "runs"), "train.py")
    assert audit.status == 2
    assert audit.out.startswith(b"60000.0\n")
    assert "[disk-full]" in audit.said + audit.out.decode()
    assert "Traceback" not in audit.said


@pytest.mark.torch
def test_a_full_disk_is_reported(small_disk: Path, tmp_path: Path) -> None:
    write(tmp_path, train="import torch; print(torch.ones(2).sum().item())")
    ballast = os.open(small_disk / "ballast", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError) as full:  # noqa: PT011  # by its number, below
        _fill(ballast)
    assert full.value.errno == errno.ENOSPC
    os.close(ballast)
    done = audited(tmp_path, "-o", str(small_disk / "runs"), "train.py")
    assert done.status == 2
    assert re.search(r"\[(disk-full|run-unwritable)\]", sentence(done, re.findall(r"\[([a-z-]+)\]", done.said)[-1]))
    assert "Traceback" not in done.said


# Interrupted runs


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["optimizer", "by hand"])
def test_steps_ends_a_script_cleanly(kind: str, tmp_path: Path) -> None:
    update = (
        "optimizer.step(); optimizer.zero_grad()"
        if kind == "optimizer"
        else "\n        with torch.no_grad(): w -= 0.1 * w.grad; w.grad = None"
    )
    source = f"""
import atexit, torch
torch.manual_seed(0)
w = torch.randn(3, requires_grad=True)
atexit.register(print, "exit handler")
{"optimizer = torch.optim.SGD([w], lr=0.1)" if kind == "optimizer" else ""}
try:
    for step in range(1000):
        (w * torch.randn(3)).sum().backward()
        {update}
        print("step", step)
finally:
    print("finally")
print("never")
"""
    (tmp_path / "train.py").write_text(source)
    audit, done = audit_of(tmp_path, "--steps", "3", "train.py")
    assert (audit.verdict, done.status) == ("no-divergence-seen", 0), done.said
    assert [(run.steps, run.exit, run.stopped) for run in audit.runs] == [(3, 0, "steps")] * 2
    script = kept(tmp_path / "runs" / "control-1")
    assert script.err == b""
    assert script.out.splitlines()[-2:] == [b"finally", b"exit handler"]
    assert b"never" not in script.out
    assert script.out.count(b"step ") in (2, 3)


@pytest.mark.torch
def test_a_timeout_ends_a_run_and_is_reported(tmp_path: Path) -> None:
    write(tmp_path, train="import time, torch\nx = torch.ones(3).exp()\nprint('on', flush=True)\ntime.sleep(600)")
    began = time.monotonic()
    audit, done = audit_of(tmp_path, "--timeout", "8", "train.py")
    assert time.monotonic() - began < 60
    assert (audit.verdict, done.status) == ("inconclusive", 2)
    assert "was ended after 8 s" in text_of(audit.reason)
    assert text_of(audit.reason).endswith("[timeout]")
    assert [run.stopped for run in audit.runs] == ["timeout", "timeout"]
    assert all(run.ops >= 2 for run in audit.runs)


@pytest.mark.torch
def test_a_timeout_ends_a_script_that_ignores_signals(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import signal, time, torch
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            torch.ones(3).exp()
            time.sleep(600)
            """,
    )
    done = audited(tmp_path, "record", "-o", "run", "--timeout", "8", "train.py")
    assert ended_by(kept(tmp_path / "run").status, signal.SIGKILL)
    assert done.status == 2
    assert "run was ended after 8 s" in sentence(done, "timeout")
    assert (opened(tmp_path / "run").main or pytest.fail("no lane")).ops >= 2


@pytest.mark.torch
@pytest.mark.parametrize("words", [["record", "-o", "runs/control-1"], ["-o", "runs"]])
@pytest.mark.parametrize("to_the_group", [True, False])
def test_an_interrupt_ends_the_script_and_keeps_what_was_recorded(words: list[str], to_the_group: bool, tmp_path: Path) -> None:
    source = """
        import pathlib, time, torch
        x = torch.ones(4321).exp()
        pathlib.Path("began").touch()
        try:
            time.sleep(600)
        finally:
            pathlib.Path("ended").touch()
        """
    write(tmp_path, train=source)
    child = subprocess.Popen(
        [sys.executable, "-m", "auditor", *words, "train.py"], cwd=tmp_path, env=environment(), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until(lambda: (tmp_path / "began").exists())
    if to_the_group:
        os.killpg(child.pid, signal.SIGINT)
    else:
        child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "[interrupted]" in err.decode().splitlines()[-1]
    assert "auditor/" not in err.decode()
    assert (tmp_path / "ended").exists()
    assert out == b""
    shown = audited(tmp_path, "show", "runs/control-1", "--op", "aten.exp.default")
    assert shown.status == 0, shown.said
    assert b"float32[4321]" in shown.out
    meta = json.loads((tmp_path / "runs" / "control-1" / "run.json").read_text())
    assert meta["stopped"] == "interrupted"


@pytest.mark.torch
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_an_auditor_that_is_terminated_ends_its_processes_and_removes_its_copies(how: signal.Signals, tmp_path: Path) -> None:
    source = """
        import os, pathlib, subprocess, sys, time, torch
        x = torch.ones(4321).exp()
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path(os.environ["BEGAN"]).write_text(f"{os.getpid()} {worker.pid}")
        time.sleep(600)
        """
    write(tmp_path / "work", train=source)
    (tmp_path / "tmp").mkdir()
    began = tmp_path / "began"
    child = subprocess.Popen(
        [sys.executable, "-m", "auditor", "record", "-o", str(tmp_path / "run"), "--pin", "leftover-files", "train.py"],
        cwd=tmp_path / "work", env=environment(BEGAN=str(began), TMPDIR=str(tmp_path / "tmp")), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until(lambda: began.exists() and began.read_text())
    child.send_signal(how)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 128 + how
    assert err.decode().splitlines()[-1].endswith("[interrupted]")
    until(
        lambda: (
            not any(
                Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in began.read_text().split()
            )
        )
    )
    assert sorted((tmp_path / "tmp").iterdir()) == []
    assert b"float32[4321]" in audited(tmp_path, "show", "run", "--op", "aten.exp.default").out


def until(true: Any, patience: float = 60.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.torch
def test_a_killed_auditor_leaves_a_readable_run(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import pathlib, os, time, torch
            torch.ones(4321).exp()
            pathlib.Path("began").write_text(str(os.getpid()))
            time.sleep(600)
            """,
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "auditor", "record", "-o", "run", "train.py"], cwd=tmp_path, env=environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: (tmp_path / "began").exists() and (tmp_path / "began").read_text())
    child.kill()
    child.wait(60)
    os.kill(int((tmp_path / "began").read_text()), signal.SIGKILL)
    shown = audited(tmp_path, "show", "run", "--op", "aten.exp.default")
    assert shown.status == 0, shown.said
    assert b"float32[4321]" in shown.out


# Broken traces


@pytest.mark.torch
@pytest.mark.parametrize(
    ("harm", "slug", "said"),
    [
        ("empty", "trace-foreign", "is not a run of repro-audit"),
        ("other json", "trace-foreign", "is not a run of repro-audit"),
        ("binary json", "trace-foreign", "is not a run of repro-audit"),
        ("newer", "trace-newer", "trace format 99"),
        ("newer lanes", "trace-newer", "trace format 99"),
        ("no lanes", "trace-truncated", "is not whole"),
        ("a lane is gone", "trace-truncated", "is not whole"),
        ("half a lane", "trace-truncated", "is not whole"),
        ("records are gone", "trace-unreadable", "cannot be read"),
        ("half of the records", "trace-unreadable", "cannot be read"),
        ("other records", "trace-unreadable", "cannot be read"),
    ],
)  # fmt: skip
def test_an_unreadable_trace_is_reported(harm: str, slug: str, said: str, run: Path, tmp_path: Path) -> None:
    broken = copied(run, tmp_path)
    records = broken / "lanes" / "000.parquet"
    lane = broken / "lanes" / "000.json"
    index = broken / "lanes" / "index.json"
    meta = broken / "run.json"
    match harm:
        case "empty":
            shutil.rmtree(broken)
            broken.mkdir()
        case "other json":
            meta.write_text("[1, 2]")
        case "binary json":
            meta.write_bytes(b"\xff\xfe{}")
        case "newer":
            meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": 99}))
        case "newer lanes":
            index.write_text(json.dumps(json.loads(index.read_text()) | {"format": 99}))
        case "no lanes":
            shutil.rmtree(broken / "lanes")
        case "a lane is gone":
            lane.unlink()
        case "half a lane":
            lane.write_bytes(lane.read_bytes()[:100])
        case "records are gone":
            records.unlink()
        case "half of the records":
            records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
        case "other records":
            records.write_bytes(b"PAR1" + b"nonsense" * 40)
    for words in (["show", str(broken)], ["diff", str(run), str(broken)], ["diff", str(broken), str(run)]):
        done = audited(tmp_path, *words)
        assert done.status == 2
        assert said in sentence(done, slug)
        assert str(broken) in done.said


@pytest.mark.torch
def test_unknown_lines_and_kinds_are_skipped_and_counted(tmp_path: Path) -> None:
    source = """
        import json, os, torch
        torch.ones(3).exp()
        spool = json.loads(open("/proc/self/environ").read().partition("REPRO_AUDIT=")[2].partition("\\0")[0])["spool"]
        for folder, _, names in os.walk(spool):
            for name in names:
                if name.endswith(".jsonl"):
                    with open(os.path.join(folder, name), "a") as file:
                        file.write('{"k": "of-the-future", "x": 1}\\n{"half a li')
                        file.flush()
        os._exit(0)
        """
    trace = record_of(tmp_path, "train", source)
    assert trace.main is not None
    assert trace.main.facts["unknown"] == 2
    assert trace.main.ops == 2
    done = audited(tmp_path, "diff", "run", "run")
    assert done.status == 0
    assert b"lines of the trace that this version cannot read (2 times in run)" in b" ".join(done.out.split())


@pytest.mark.torch
def test_runs_with_the_same_name_are_distinguished(run: Path, tmp_path: Path) -> None:
    other = copied(run, tmp_path)
    done = audited(tmp_path, "diff", str(run), str(other), "--json", "-")
    assert done.status == 0, done.said
    assert [entry["id"] for entry in json.loads(done.out)["runs"]] == [str(run), str(other)]


# Our own cache


def test_old_audits_in_the_cache_are_removed_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "repro-audit").mkdir()
    (tmp_path / "repro-audit" / "of-the-user").mkdir()
    made = [new_folder(Plan(("some where/träin.py",))) for _ in range(25)]
    left = set((tmp_path / "repro-audit").iterdir())
    assert left == {tmp_path / "repro-audit" / "of-the-user", *made[-20:]}
    assert all(re.fullmatch(r"[0-9]{8}-[0-9]{6}-[A-Za-z0-9_.~-]+", path.name) for path in made)


def test_an_unwritable_cache_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert new_folder(Plan(("train.py",))).is_dir()
