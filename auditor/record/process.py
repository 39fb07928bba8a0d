"""One recorded process: where its files are, which lanes it has, who it is among the processes of the run."""

from __future__ import annotations

import _thread
import json
import os
import sys
import time
from typing import Any

from auditor.interruptions import interrupts
from auditor.record import digest, imports
from auditor.record.callsite import is_user_code
from auditor.record.lane import Lane
from auditor.redaction import redacted_words
from auditor.trace import FORMAT
from auditor.trace.writer import Numbers, make_folder

#: A lane is kept for as long as the process lives, and has files of its own.
_MOST_LANES = 1000


class Process:
    """Settings, identity and lanes. A fork continues the same object with a new identity (`forked`)."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Take the settings; nothing is written before `begin`."""
        self.settings = settings
        self.level: str = settings.get("level", "ops")
        self.directory = ""
        self.numbers = Numbers()  # also those of its forebears: record numbers stay distinct
        self.opened = 0
        self.lanes: list[Lane] = []
        self.local = _thread._local()
        self.opening = _thread.allocate_lock()  # two threads may have their first op at once
        self.role: dict[str, object] = {}
        self.parent = ""
        self.forks = 0
        self.threads = 0
        self.main_thread = _thread.get_ident()
        self.rank: str | None = None
        self.begun = False
        self.poll_settings: Any = None
        self.variable_set: Any = None  # set by settings when torch is there: an environment variable has got another value
        self.set_level: Any = None
        self.backward: Any = None
        self.around: list[Any] = []  # set by torch_mode: what this run puts around a lane's handler
        self.handler: Any = None  # set by torch_mode: the handler of the current thread, None where its ops are not recorded
        self.enter_redirection: Any = None  # set by redirect: enters its modes on the current thread
        self.logical_device: Any = None  # set by redirect, in a run that only passes for one on CUDA: a tensor's device there
        self.torch: Any = None
        self.modules: list[Any] = []  # set by arm: all of ours that are in this process
        self.thread_number: Any = None  # set by threads: the number of the current one
        self.enter_thread: Any = None  # set by torch_mode: enters the mode of the current thread

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
        try:
            lane: Lane = self.local.lane
        except AttributeError:
            with self.opening:
                lane = self.local.lane = self._open_lane()
        return lane

    def existing_lane(self) -> Lane | None:
        """The current thread's lane if it has had an event."""
        return getattr(self.local, "lane", None)

    def _open_lane(self) -> Lane:
        self.begin()
        role = dict(self.role)
        if _thread.get_ident() != self.main_thread:
            role["thread"] = self.thread_number() if self.thread_number else 0
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
        self.local = _thread._local()
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
