"""Runs one plan in a child process and records it into a run directory.

The child is plain `python train.py args`, with `record/boot` first on PYTHONPATH and one settings variable. A missing or unfinished trace
is reported, never guessed. If the child or the auditor is interrupted, what was recorded is still sealed and kept.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import struct
import subprocess
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, get_args

from auditor.errors import LaunchError
from auditor.launch.cache import cache_folder, new_folder
from auditor.launch.machine import describe
from auditor.launch.output_digests import output_digests
from auditor.launch.processes import Stall, descendants, end, endpoints, parent_of, started_as_python
from auditor.launch.scratch import Snapshot, folder_for_copy, in_scratch, moved, path_for_copy, with_original_paths
from auditor.launch.streams import Output, Stdin, closed_streams
from auditor.launch.tree import remove
from auditor.plan import Plan
from auditor.redaction import secrets_in, without
from auditor.results import Role, RunOutcome
from auditor.trace import FORMAT, HEADER, HEADER_SIZE, TYPED
from auditor.trace.files import make_folder, write
from auditor.trace.going import began, boot
from auditor.trace.reader import Trace, opened

__all__ = [
    "Progress",
    "Screen",
    "Snapshot",
    "Stdin",
    "cache_folder",
    "folder_for_copy",
    "launch",
    "moved",
    "new_folder",
    "path_for_copy",
    "remove",
    "with_original_paths",
]  # fmt: skip

_BOOT = Path(__file__).resolve().parent.parent / "record" / "boot"
_TICK = 0.1
#: Bytes of free space below which not even the first records of a lane fit.
_LEAST_SPACE = 1 << 20
#: Seconds between asking the child to end and killing it.
_GRACE = 5.0
#: A run without progress is ended after this many seconds at the earliest, and after this multiple of the seconds of a whole run.
_STALL_SECONDS, _STALL_FACTOR = 30.0, 3.0
#: Seconds between two checks of the processes of a young run, and how many seconds a run counts as young.
_YOUNG_INTERVAL, _YOUNG_SECONDS = 0.25, 5.0
#: ADDR_NO_RANDOMIZE of personality(2); child processes inherit it.
_NO_RANDOMIZE = 0x0040000


@dataclass(frozen=True)
class Progress:
    """How far a run is; `steps` and `records` are those at the last step."""

    run: str
    seconds: float
    steps: int = 0
    records: int = 0


class Screen(Protocol):
    """Where the script's output and the progress line go, without overwriting each other."""

    def output(self, stream: int, data: bytes) -> None:
        """Pass on what the script wrote to stdout (1) or stderr (2)."""

    def progress(self, progress: Progress) -> None:
        """Show how far the run is."""


def launch(
    plan: Plan, run: Path, name: str, role: str, screen: Screen, stdin: Stdin | None = None, quiet: bool = False,
    stop: threading.Event | None = None, usual: float | None = None,
) -> RunOutcome:  # fmt: skip
    """Run the plan, record into the directory `run`, and seal it.

    `quiet` keeps the script's output in the run directory without showing it. A run that makes no progress for far longer than the `usual`
    seconds of a whole run is ended. Raises `LaunchError` if the child cannot be started. KeyboardInterrupt, or another thread that sets
    `stop`, ends the child; what it recorded is sealed, then KeyboardInterrupt is raised.
    """
    if plan.copy.leftovers or plan.copy.patches:
        with in_scratch(plan, run) as placed:
            return launch(placed, run, name, role, screen, stdin, quiet, stop, usual)
    try:
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise LaunchError("run-exists", f"{run} exists already: choose another name, or remove it")
        make_folder(run, exist_ok=True)
        make_folder(run / "spool")
    except OSError as error:
        raise LaunchError("run-unwritable", f"cannot write to {run}: {error.strerror}") from error
    known = plan.as_json()
    meta: dict[str, Any] = {
        "format": FORMAT, "id": name, "role": role, "script": list(known["script"]), "cwd": known["cwd"], "plan": known,
        "started": time.time(), "exit": None, "seconds": None, "pinned": list(plan.pinned), "varied": list(plan.varied),
        "launcher": {"pid": os.getpid(), "began": began(os.getpid()), "boot": boot()}, **describe(plan),
    }  # fmt: skip
    _write_meta(run, meta)
    source = stdin or Stdin()
    interactive = stdin is not None and source.interactive
    output = Output(run, screen, quiet)
    started = time.monotonic()
    stopped: str | None = None
    interrupted = False
    closed = closed_streams()
    try:
        child = subprocess.Popen(
            plan.command, cwd=plan.cwd, env=_environment(plan, run, interactive), stdin=source.open(),
            stdout=output.stdout, stderr=output.stderr,
            preexec_fn=partial(_prepare, closed, plan.fixed_addresses) if closed or plan.fixed_addresses else None,
        )  # fmt: skip
    except OSError as error:
        output.close()
        source.close()
        if not Path(plan.cwd).is_dir():
            raise LaunchError("folder-gone", f"cannot start {name}: the working directory {plan.cwd} was deleted") from error
        raise LaunchError("cannot-start", f"cannot start {plan.command[0]}: {error.strerror}") from error
    watcher = _Watcher(run, name, started, child.pid, usual)
    try:
        source.started()
        output.started()
        while child.poll() is None:
            try:
                child.wait(_TICK)
            except subprocess.TimeoutExpired:
                screen.progress(watcher.read_progress())
                stopped = "stalled" if watcher.stalled() else stopped
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt
            if plan.timeout is not None and time.monotonic() - started > plan.timeout:
                stopped = "timeout"
            if stopped is not None and child.poll() is None:
                with_it = descendants(child.pid)
                _end(child, signal.SIGTERM)
                end([pid for pid in with_it if pid != child.pid])
    except KeyboardInterrupt:
        # A terminal sends SIGINT to the child as well; a SIGINT that only the auditor got is passed on.
        interrupted = True
        stopped = "interrupted"
        _end(child, signal.SIGINT)
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        seconds = time.monotonic() - started
        source.close()
        output.close()
        if stopped or child.returncode < 0:
            _end_orphans(run)
        if interactive:
            source.typed = _typed(run / "spool" / TYPED)
    meta |= {"exit": child.returncode, "seconds": round(seconds, 3), "pid": child.pid, "stopped": stopped}
    meta["ports"] = sorted(watcher.ports)
    secrets = secrets_in(plan.script, dict(os.environ) | plan.variables)
    meta["error"] = without(with_original_paths(output.last_error(), plan.copy.copies) or "", secrets) or None
    if not (run / "run.json").exists():  # the script may have made the directory anew
        raise LaunchError("run-directory-gone", f"the run directory {run} was removed while the script ran, so its recording is lost")
    _write_meta(run, meta)
    trace = opened(run, own=True)
    unseen = watcher.unseen({process.get("pid") for process in trace.processes})
    _write_meta(run, meta | {"written": output_digests(trace, plan), "unseen": unseen})
    if interrupted:
        raise KeyboardInterrupt
    return outcome(trace)


def outcome(trace: Trace) -> RunOutcome:
    """What is known of a run, read from its directory."""
    meta = trace.meta
    main = trace.main
    # A rerun for value capture ends the rank that has recorded enough; the launcher of the other ranks then reports a failed rank.
    seen = any(lane.facts["stopped"] == "look" for lane in trace.lanes.values())
    stopped = meta.get("stopped") or ("look" if seen else main.facts["stopped"] if main else None)
    return RunOutcome(
        id=trace.id, role=meta["role"] if meta.get("role") in get_args(Role) else "kept",  # written by a later version, or unknown
        pinned=meta.get("pinned") or [], varied=meta.get("varied") or [], exit=meta.get("exit"),
        seconds=meta.get("seconds"), ops=sum(lane.ops for lane in trace.lanes.values()), steps=main.steps if main else 0,
        path=str(trace.path), error=None if seen else meta.get("error"), stopped=stopped or None,
    )  # fmt: skip


def nothing_recorded(trace: Trace) -> LaunchError | None:
    """The error for a run in which no op was recorded; None if there were ops."""
    if any(lane.ops for lane in trace.lanes.values()):
        return None
    failed = f" (it ended with {trace.meta.get('error') or 'status ' + str(trace.meta.get('exit'))})" if trace.meta.get("exit") else ""
    if shutil.disk_usage(trace.path).free < _LEAST_SPACE:
        return LaunchError("disk-full", f"nothing was recorded: there is no space left for {trace.path}{failed}")
    if any(lane.facts["stopped"] == "disk-full" for lane in trace.lanes.values()):
        return LaunchError("disk-full", f"nothing was recorded: the limit on file sizes (ulimit -f) is too small for {trace.path}{failed}")
    if not trace.processes:
        return LaunchError(
            "recorder-not-armed",
            f"nothing was recorded: the recorder did not start in {' '.join(trace.meta['plan']['script'])}{failed}; "
            f"is repro-audit installed for {trace.meta['plan']['python']}, and is it started without -I, -E and -S?",
        )
    if (trace.meta.get("plan") or {}).get("names"):
        if any(lane.facts.get("names") for lane in trace.lanes.values()):
            return None
        return LaunchError("no-names", f"nothing was recorded: no line in the script's own files assigned a number to a name{failed}")
    if not any(lane.facts["torch"] for lane in trace.lanes.values()):
        return LaunchError("torch-never-imported", f"nothing was recorded: the script never imported torch{failed}")
    if (trace.meta.get("plan") or {}).get("level") == "ops":
        return LaunchError("no-ops", f"nothing was recorded: torch was imported but no op ran{failed}")
    return (
        None if any(lane.steps for lane in trace.lanes.values()) else LaunchError("no-steps", f"nothing was recorded: no step ran{failed}")
    )


def _typed(file: Path) -> bytes:
    """Return what was typed at a terminal, and remove it from the run."""
    try:
        typed = file.read_bytes()
        file.unlink()
    except OSError:
        return b""
    return typed


def _write_meta(run: Path, meta: dict[str, Any]) -> None:
    part = run / "run.json.part"
    try:
        write(part, json.dumps(meta, indent=1))  # file names may not be UTF-8
        part.replace(run / "run.json")
    except OSError as error:
        raise LaunchError("run-unwritable", f"cannot write to {run}: {error.strerror}") from error


def _environment(plan: Plan, run: Path, interactive: bool) -> dict[str, str]:
    environment = dict(os.environ)
    environment.update(plan.variables)
    if plan.recording.level == "off":
        return environment
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(_BOOT), *([inherited] if inherited else [])])
    settings = plan.recorder_settings() | {
        "run": str(run.resolve()), "spool": str((run / "spool").resolve()), "launcher": os.getpid(),
        **({"typed": True} if interactive else {}),
    }  # fmt: skip
    environment["REPRO_AUDIT"] = json.dumps(settings)
    return environment


def _end(child: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Ask the child to end, wait a little, then kill it."""
    deadline = time.monotonic() + _GRACE
    if how is signal.SIGINT:
        try:
            child.wait(_GRACE / 5)  # the terminal may have sent it one
        except subprocess.TimeoutExpired:
            child.send_signal(how)
    else:
        child.send_signal(how)
    try:
        child.wait(max(deadline - time.monotonic(), 0.1))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()


def _end_orphans(run: Path) -> None:
    """End recorded processes that outlived the script, such as workers of a killed script."""
    for facts in (run / "spool").glob("*/process.json"):
        try:
            pid = json.loads(facts.read_text())["pid"]
            if str(run.resolve()).encode() in Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(pid, signal.SIGTERM)
        except (OSError, ValueError, KeyError):
            continue


def _prepare(closed: list[int], fixed_addresses: bool) -> None:
    """Runs in the child before exec: close the streams that the user's shell had closed, and disable address randomisation."""
    for fd in closed:
        os.close(fd)
    if fixed_addresses:
        ctypes.CDLL(None).personality(_NO_RANDOMIZE)


class _Watcher:
    """Reads the child's progress from the headers of its lanes' first segments, and watches its processes."""

    def __init__(self, run: Path, name: str, started: float, pid: int, usual: float | None) -> None:
        self.run = run
        self.spool = run / "spool"
        self.name = name
        self.started = started
        self.ports: set[str] = set()
        self._parents: dict[int, int] = {}
        self._pythons: dict[int, float] = {}
        self._pid = pid
        self._next = started + _YOUNG_INTERVAL
        self._last = Progress(name, 0.0)
        self._stall = Stall(max(_STALL_SECONDS, _STALL_FACTOR * usual)) if usual is not None else None

    def stalled(self) -> bool:
        """Whether the run has stopped making progress; cheap to call often, because it checks only from time to time."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + (_YOUNG_INTERVAL if now - self.started < _YOUNG_SECONDS else 1.0)
        running = descendants(self._pid)
        self.ports |= endpoints(list(running))
        self._parents |= {pid: parent_of(pid) for pid in running}
        new = [pid for pid in running if pid not in self._pythons and pid != self._pid and started_as_python(pid)]
        self._pythons |= dict.fromkeys(new, time.time())
        if self._stall is None:
            return False
        printed = [path.stat().st_size for path in (self.run / "stdout", self.run / "stderr") if path.exists()]
        return self._stall.seen(now, (self._last.records, self._last.steps, printed, sorted(running)), sum(running.values()))

    def unseen(self, recorded: set[Any]) -> list[dict[str, Any]]:
        """Python processes that were not recorded: each with its line of parents, and when it was seen."""
        found: list[dict[str, Any]] = []
        for pid in sorted(set(self._pythons) - recorded):
            line = [pid]
            while line[-1] in self._parents and line[-1] != self._pid:
                line.append(self._parents[line[-1]])
            found.append({"pids": line, "at": self._pythons[pid]})
        return found

    def read_progress(self) -> Progress:
        steps = records = 0
        for segment in self.spool.glob("*/*.0.seg"):
            try:
                with segment.open("rb") as file:
                    header = struct.unpack_from(HEADER, file.read(HEADER_SIZE))
            except (OSError, struct.error):
                continue
            records += header[4]
            steps = max(steps, header[5])
        self._last = Progress(self.name, time.monotonic() - self.started, steps, records)
        return self._last
