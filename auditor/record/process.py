"""One recorded process: where its files are, which lanes it has, who it is among the processes of the run."""

from __future__ import annotations

import _thread
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from auditor.interruptions import interrupts
from auditor.record import digest, imports
from auditor.record.callsite import is_user_code
from auditor.record.core.protocol import Core, Level
from auditor.record.lane import Lane
from auditor.redaction import redacted_words
from auditor.trace import DIGEST, FORMAT
from auditor.trace.writer import Numbers, make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType, ModuleType

    from auditor.record.observers import MakeObserver

#: A lane is kept for as long as the process lives, and has files of its own.
_MOST_LANES = 1000


class ThreadState(_thread._local):
    """What is kept of each thread; the values here are those of one that nothing is known of yet."""

    lane: Lane | None = None
    level: Level | None = None
    """The level that it has followed last; None in a thread that is not to have the mode."""
    mode: Any = None
    """The mode that it has entered."""
    redirection: Sequence[Any] = ()
    """The modes of `redirect` that it has entered, the lowest first."""
    task: str | None = None
    """The task of a pool that it runs."""
    named: Any = None
    """Its collector of named values."""


class Modes(Protocol):
    """The dispatch modes of a process's threads; `probes/torch_mode.py` has the one that there is."""

    def core(self) -> Core | None:
        """The core of the current thread, None where its ops are not recorded."""

    def enter(self) -> None:
        """Enter the mode on the current thread, which has begun, if the level asks for it."""

    def leave(self) -> None:
        """Leave it: the thread ends."""

    def set_level(self, level: Level) -> None:
        """Change how closely the process is recorded; this thread follows at once, each other one at its next `follow`."""

    def follow(self) -> None:
        """Enter or leave the mode on this thread where the level has changed. Called at its steps, backward passes and module calls."""


class Process:
    """Settings, identity and lanes. A fork continues the same object with a new identity (`forked`)."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Take the settings; nothing is written before `begin`."""
        self.settings = settings
        self.level = Level(settings.get("level", Level.OPS.value))
        self.directory = ""
        self.numbers = Numbers()  # also those of its forebears: record numbers stay distinct
        self.opened = 0
        self.lanes: list[Lane] = []
        self.local = ThreadState()
        self.opening = _thread.allocate_lock()  # two threads may have their first op at once
        self.role: dict[str, object] = {}
        self.parent = ""
        self.forks = 0
        self.threads = 0
        self.main_thread = _thread.get_ident()
        self.rank: str | None = None
        self.begun = False
        self.modules: list[ModuleType] = []
        """All of ours that are in this process. Set by `arm`."""
        # What one part does for others; each is there once the part has been installed.
        self.thread_number: Callable[[], int] = lambda: 0
        """Number of the current thread. Set by the probe `threads`."""
        self.poll_settings: Callable[[bool], None] | None = None
        """Looks for settings that have changed; whether the line is known. Set by the probe `settings`."""
        self.variable_set: Callable[[str, str], None] | None = None
        """Called when an environment variable gets another value. Set by the probe `settings` when torch is there."""
        self.at_backward: list[Callable[[Lane, FrameType, Any, dict[str, Any]], None]] = []
        """Called when a backward pass begins that is not within another: lane, frame of the engine's call, outputs, options."""
        self.observers: list[tuple[MakeObserver, Any]] = []
        """What looks at each op, with its settings. Set by `arm`."""
        self.modes: Modes | None = None
        """The dispatch modes of the threads. Set by the probe `torch_mode`."""
        self.enter_redirection: Callable[[], list[Any]] | None = None
        """Enters the modes of `redirect` on the current thread, in a run on a chosen device."""

    def begin(self) -> None:
        """Write process.json: from here on the parent knows that this process was armed."""
        if self.begun:
            return
        self.begun = True
        started = time.time()
        if not self.parent and os.getppid() != self.settings.get("launcher"):
            self.role["script"] = os.path.basename(self.script())
        self.directory = os.path.join(self.settings["spool"], f"{os.getpid()}-{time.time_ns():x}")
        self.rank = next((os.environ[v] for v in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK") if v in os.environ), None)
        facts = {
            "format": FORMAT,
            "digest": DIGEST,
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "started": started,
            "began": _began(),
            "argv": redacted_words(getattr(sys, "orig_argv", sys.argv if hasattr(sys, "argv") else [])),
            "executable": sys.executable,
            "python": sys.version.split()[0],
            "parent": self.parent,
            "fork": self.forks,
            "rank": self.rank,
        }
        try:
            make_folder(self.directory)
            fd = os.open(os.path.join(self.directory, "process.json"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.fchmod(fd, 0o600)
            os.write(fd, json.dumps(facts).encode())
            os.close(fd)
        except OSError as error:
            if interrupts(error):
                raise
            # the writer of the first lane meets the same error and keeps the reason

    @staticmethod
    def script() -> str:
        """The script as it was named to Python; `-m name` of a module, `-c` of code."""
        words: Any = iter(getattr(sys, "orig_argv", [])[1:])
        for word in words:
            if word in ("-W", "-X"):
                next(words, None)
            elif word == "-m":
                return f"-m {next(words, '')}"
            elif not word.startswith("-"):
                return str(word)
            elif word == "-c" or (word[1] != "-" and word.endswith("c")):
                break  # the code itself can hold numbers that are new in every run
        return "-c"

    def lane(self) -> Lane:
        """The current thread's lane, opened when it has its first event."""
        lane = self.local.lane
        if lane is None:
            with self.opening:
                lane = self.local.lane = self._open_lane()
        return lane

    def existing_lane(self) -> Lane | None:
        """The current thread's lane if it has had an event."""
        return self.local.lane

    def _open_lane(self) -> Lane:
        self.begin()
        role = dict(self.role)
        if not self.is_main_thread():
            role["thread"] = self.thread_number()
        ordinal = self.opened
        self.opened += 1
        lane = Lane(self.directory, ordinal, self.numbers, role, _identity())
        lane.deferring = self.settings.get("digests") == "deferred"
        if ordinal >= _MOST_LANES:
            lane.line({"k": "lost", "what": f"what threads do after the first {_MOST_LANES - 1:,} of a process", "count": 1})
            lane.writer.stop("too-long")
        self.lanes.append(lane)
        _tell_failures(lane)
        return lane

    def is_main_thread(self) -> bool:
        """Whether the current thread is the one that the process began with."""
        return _thread.get_ident() == self.main_thread

    def becomes(self, **role: object) -> None:
        """Say who this process is; the lane of the current thread is told if it is open already."""
        self.role.update(role)
        lane = self.existing_lane()
        if lane is not None:
            lane.role.update(role)
            lane.identity = _identity()  # a spawned process has lanes before multiprocessing has told it who it is
            lane.line({"k": "role", "role": role, "identity": lane.identity})

    def forked(self) -> None:
        """Continue as the child of a fork: own files, own lanes; the parent's files are left to the parent."""
        self.parent = os.path.basename(self.directory)
        for lane in self.lanes:
            lane.writer.abandon()
        self.opened = 0
        self.role = {"fork": self.forks}
        self.lanes = []
        self.local = ThreadState()
        self.opening = _thread.allocate_lock()
        self.main_thread = _thread.get_ident()
        self.threads = 0
        self.begun = False

    def close(self) -> None:
        """End what is unfinished and write the end marks."""
        for lane in self.lanes:
            try:
                if lane.unfinished_step is not None:
                    lane.unfinished_step()
            except SystemExit as error:  # that was the last of the steps asked for
                if interrupts(error):
                    raise
            _tell_failures(lane)
            lane.close()


def _began() -> int | None:
    """When this process began, by the kernel's clock, which no factor changes; with its number, who it is."""
    try:
        with open("/proc/self/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError) as error:
        if interrupts(error):
            raise
        return None


def _tell_failures(lane: Lane) -> None:
    for what, count in imports.failures():
        lane.line({"k": "lost", "what": f"what a part of the recorder would have noted: {what}", "count": count})
    while digest.unread:
        kind, count = digest.unread.popitem()
        lane.line({"k": "lost", "what": f"values of tensors of class {kind}, which keeps them where they cannot be read", "count": count})


def _identity() -> list[int]:
    """What multiprocessing counts its children by: the same in every run, forked or spawned."""
    process = sys.modules.get("multiprocessing.process")
    if process is None:
        return []
    return list(getattr(process.current_process(), "_identity", ()))


def in_standard_library(filename: str) -> bool:
    """Whether a file belongs to Python itself."""
    return not is_user_code(filename) and "site-packages" not in filename and "dist-packages" not in filename
