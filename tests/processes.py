"""Starts scripts for the tests: bare, and under the auditor in the same directory."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from auditor.trace.reader import Trace, opened

SCRIPTS = Path(__file__).parent / "scripts"
#: Safety limit in seconds, far above what any test needs.
PATIENCE = 240.0


@dataclass(frozen=True)
class Ended:
    """The visible result of a process."""

    status: int
    out: bytes
    err: bytes

    @property
    def said(self) -> str:
        """What it wrote to stderr."""
        return self.err.decode("utf-8", "replace")


def environment(**changes: str | None) -> dict[str, str]:
    """The tests' own environment without what pytest and its plug-ins add; None removes a variable."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_", "REPRO_AUDIT"))}
    for name, value in changes.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = value
    return found


def start(command: list[str], cwd: Path, stdin: Any = subprocess.DEVNULL, env: dict[str, str] | None = None, **how: Any) -> Ended:
    """Run a command to its end; `stdin` is a file, a constant of subprocess, or the bytes to send through a pipe."""
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    done = subprocess.run(command, cwd=cwd, env=environment() if env is None else env, timeout=PATIENCE, check=False, **given, **streams)
    return Ended(done.returncode, done.stdout or b"", done.stderr or b"")


def bare(cwd: Path, *script: str, **how: Any) -> Ended:
    """Run a script without the auditor."""
    return start([sys.executable, *script], cwd, **how)


def audited(cwd: Path, *words: str, env: dict[str, str] | None = None, **how: Any) -> Ended:
    """Run `repro-audit` with these words: in a fork of a process that has done the imports, unless it needs its own streams."""
    if how:
        return start([sys.executable, "-m", "auditor", *words], cwd, env=env, **how)
    return _warm().run(cwd, words, environment() if env is None else env)


@cache
def _warm() -> _Warm:
    return _Warm()


class _Warm:
    """The process of `tests.warm`, and how to send it requests."""

    def __init__(self) -> None:
        root = Path(__file__).parent.parent
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"], cwd=root, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self._asked = threading.Lock()
        atexit.register(self.end)

    def run(self, cwd: Path, words: Sequence[str], env: dict[str, str]) -> Ended:
        """Run one command to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._asked, tempfile.TemporaryDirectory() as streams:
            out, err = Path(streams, "out"), Path(streams, "err")
            request = {"cwd": str(cwd), "environment": env, "words": list(words), "out": str(out), "err": str(err)}
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
                self.end()
                raise subprocess.TimeoutExpired(["repro-audit", *words], PATIENCE, out.read_bytes(), err.read_bytes())
            return Ended(int(self._process.stdout.readline()), out.read_bytes(), err.read_bytes())

    def end(self) -> None:
        """End it and the command that it runs: the signal goes to the whole process group."""
        _warm.cache_clear()
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()


def kept(run: Path) -> Ended:
    """How the script of a kept run ended, and its kept output."""
    meta = json.loads((run / "run.json").read_text())
    return Ended(meta["exit"], (run / "stdout").read_bytes(), (run / "stderr").read_bytes())


def recorded(cwd: Path, run: Path, *script: str, **how: Any) -> Ended:
    """Record a script; returns the result of the script, not of the auditor."""
    done = audited(cwd, "record", "-o", str(run), *script, **how)
    assert (run / "run.json").exists(), done.said
    return kept(run)


def write(folder: Path, **sources: str) -> Path:
    """Write modules into a folder: `write(tmp, train='import torch')`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source).lstrip("\n"))
    return folder


def record_of(folder: Path, script: str, source: str, *words: str) -> Trace:
    """Record one script, given as text, and open the run; the script must exit with 0."""
    write(folder, **{script: source})
    done = audited(folder, "record", "-o", "run", *words, f"{script}.py")
    assert done.status == 0, done.said
    return opened(folder / "run")


def line_of(source: str, mark: str) -> int:
    """Number of the only line of a script that contains this text."""
    lines = [number for number, line in enumerate(textwrap.dedent(source).lstrip("\n").splitlines(), 1) if mark in line]
    assert len(lines) == 1, f"{mark!r} is on lines {lines}"
    return lines[0]


def ended_by(status: int, how: signal.Signals) -> bool:
    """Whether a status means that a signal ended the process."""
    return status == -how


def made_once(temporary: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
    """The folder of this name and the result of `make`, which is called once, by the first of the test processes to arrive.

    The result passes through JSON. A plain fixture is made once per test process, and a module's fixture again whenever a process gets
    tests of that module again.
    """
    base = temporary.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, returned = base / name, base / f"{name}.json"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not returned.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            returned.write_text(json.dumps(make(folder)))
    return folder, json.loads(returned.read_text())
