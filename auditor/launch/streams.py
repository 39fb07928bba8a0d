"""The child's stdin, stdout and stderr.

Output goes through a pseudo-terminal if the auditor's own output is a terminal, and through a pipe otherwise, so that a script sees the
same `isatty` and buffering. It is passed on unchanged and kept. If stdout and stderr are one file, they are one for the child too, which
keeps their order. Every later run reads the stdin that the first run read. A stream that is closed for the auditor is closed for the child.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from auditor.trace.files import create

if TYPE_CHECKING:
    from auditor.launch import Screen

_CHUNK = 1 << 16
#: Seconds to wait for output of processes that outlived the script.
_DRAIN = 1.0
_KEPT = 64 << 20


def closed_streams() -> list[int]:
    """Which of 0, 1 and 2 were closed when the auditor started; other files may have these numbers by now."""
    return [fd for fd, stream in enumerate((sys.__stdin__, sys.__stdout__, sys.__stderr__)) if stream is None]


class Output:
    """Both output streams of one child."""

    def __init__(self, run: Path, screen: Screen, quiet: bool) -> None:
        self._screen = screen
        self._quiet = quiet
        self._kept: dict[int, IO[bytes]] = {}
        self._room = {1: _KEPT, 2: _KEPT}
        self._tail = b""
        self._run = run
        self._ours: dict[int, int] = {}
        self.stdout = self._open(1)
        if _same_file(1, 2):
            self.stderr = self.stdout
        else:
            self.stderr = self._open(2)
        for stream, name in ((1, "stdout"), (2, "stderr")):
            try:
                self._kept[stream] = os.fdopen(create(run / name), "wb")
            except OSError:
                pass  # the disk is full: output still passes through
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._pump, daemon=True)

    def _open(self, stream: int) -> int:
        if stream in closed_streams():
            return os.open(os.devnull, os.O_WRONLY)  # closed again in the child
        if _isatty(stream):
            import fcntl
            import termios
            import tty

            master, slave = os.openpty()
            attributes = termios.tcgetattr(slave)
            attributes[tty.OFLAG] &= ~termios.OPOST  # the real terminal turns \n into \r\n
            termios.tcsetattr(slave, termios.TCSANOW, attributes)
            try:
                fcntl.ioctl(slave, termios.TIOCSWINSZ, fcntl.ioctl(stream, termios.TIOCGWINSZ, b"\0" * 8))
            except OSError:
                pass
            self._ours[master] = stream
            return slave
        reader, writer = os.pipe()
        self._ours[reader] = stream
        return writer

    def started(self) -> None:
        """The child has its ends: close the auditor's copies and pass on what it writes."""
        for fd in {self.stdout, self.stderr}:
            os.close(fd)
        self._thread.start()

    def _pump(self) -> None:
        waiting = set(self._ours)
        deadline = None
        while waiting:
            if self._done.is_set():
                deadline = deadline or time.monotonic() + _DRAIN
                if time.monotonic() > deadline:
                    break
            ready, _, _ = select.select(list(waiting), [], [], 0.05)
            if not ready and self._done.is_set() and deadline is not None and time.monotonic() > deadline - _DRAIN / 2:
                break
            for fd in ready:
                try:
                    data = os.read(fd, _CHUNK)
                except OSError:  # a pseudo-terminal whose last user is gone
                    data = b""
                if data:
                    self._pass_on(self._ours[fd], data)
                else:
                    waiting.discard(fd)

    def _pass_on(self, stream: int, data: bytes) -> None:
        if stream == 2 or self.stderr == self.stdout:
            self._tail = (self._tail + data)[-_CHUNK:]
        file = self._kept.get(stream)
        if file is not None and self._room[stream] > 0:
            try:
                file.write(data[: self._room[stream]])
            except OSError:
                pass
            self._room[stream] -= len(data)
        if not self._quiet:
            self._screen.output(stream, data)

    def close(self) -> None:
        """Pass on the rest and close all descriptors."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        elif not self._thread.ident:  # the child was never started
            for fd in {self.stdout, self.stderr}:
                os.close(fd)
        for fd in self._ours:
            os.close(fd)
        for file in self._kept.values():
            try:
                file.close()
            except OSError:
                pass

    def last_error(self) -> str | None:
        """Last line of the last traceback that the script printed."""
        text = self._tail.decode("utf-8", "replace")
        at = text.rfind("Traceback (most recent call last):")
        if at < 0:
            return None
        lines = [line for line in text[at:].splitlines()[1:] if line and not line.startswith((" ", "\t"))]
        return lines[0][:300] if lines else None


class Stdin:
    """Standard input of all runs of one audit."""

    def __init__(self) -> None:
        self._runs = 0
        self._kind = _stdin_kind()
        self._offset = os.lseek(0, 0, os.SEEK_CUR) if self._kind == "file" else 0
        self._spool: IO[bytes] | None = None
        self._to_close: list[int] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._writer = -1
        #: what the first run read from a terminal
        self.typed = b""

    @property
    def interactive(self) -> bool:
        """Whether the next run reads from a terminal, so that its input is recorded for later runs."""
        return self._kind == "terminal" and not self._runs

    def for_concurrent_run(self) -> Stdin | None:
        """The stdin for a run at the same time as this one; None if it came through a pipe, which only one run at a time can read."""
        if self._kind == "pipe":
            return None
        other = Stdin()
        other._runs, other.typed, other._offset = self._runs, self.typed, self._offset
        return other

    def open(self) -> int:
        """A descriptor for the next child; what is not a terminal, file or pipe, such as /dev/null, is the same for all."""
        self._runs += 1
        if self._kind == "none" or (self._kind == "terminal" and self._runs == 1):
            return 0
        if self._kind == "file":
            fd = os.open("/dev/fd/0", os.O_RDONLY)
            os.lseek(fd, self._offset, os.SEEK_SET)
            self._to_close.append(fd)
            return fd
        reader, self._writer = os.pipe()
        self._to_close.append(reader)
        return reader

    def started(self) -> None:
        """The child has its end: close the auditor's copy and feed the child."""
        for fd in self._to_close:
            os.close(fd)
        self._to_close.clear()
        if self._writer >= 0:
            self._stop.clear()
            self._thread = threading.Thread(target=self._feed, daemon=True)
            self._thread.start()

    def _feed(self) -> None:
        writer, self._writer = self._writer, -1
        try:
            if self._kind == "terminal":
                os.write(writer, self.typed)
                return
            if self._spool is None:
                self._spool = tempfile.TemporaryFile(prefix="repro-audit-stdin-")  # noqa: SIM115  # kept for the next run
            self._spool.seek(0)
            while chunk := self._spool.read(_CHUNK):
                os.write(writer, chunk)
            while not self._stop.is_set():
                ready, _, _ = select.select([0], [], [], 0.1)
                if not ready:
                    continue
                data = os.read(0, _CHUNK)
                if not data:
                    return
                self._spool.write(data)
                os.write(writer, data)
        except OSError:
            return  # the child does not read, or has ended
        finally:
            os.close(writer)

    def close(self) -> None:
        """Release everything when the child has ended."""
        for fd in self._to_close:
            os.close(fd)
        self._to_close.clear()
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_DRAIN)  # a process that outlived the script may hold the other end
            self._thread = None


def _stdin_kind() -> str:
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return "none"
    if os.isatty(0):
        return "terminal"
    if stat.S_ISREG(mode) and Path("/dev/fd/0").exists():
        return "file"
    return "pipe" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else "none"


def _isatty(fd: int) -> bool:
    try:
        return os.isatty(fd) and sys.platform != "win32"
    except OSError:
        return False


def _same_file(a: int, b: int) -> bool:
    try:
        x, y = os.fstat(a), os.fstat(b)
    except OSError:
        return False
    return (x.st_dev, x.st_ino) == (y.st_dev, y.st_ino)
