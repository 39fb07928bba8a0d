"""What the auditor shows while runs are being made: one status line on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import os
import sys
import threading
import time

from auditor.launch import Progress


class PlainScreen:
    """One line when a run begins, and one a minute."""

    _EVERY = 60.0

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._lock = threading.Lock()
        self._open: set[int] = set()  # streams on which the script is in the middle of a line

    def output(self, stream: int, data: bytes) -> None:
        """Pass on what the script wrote."""
        with self._lock:
            self._clear()
            write_all(stream, data)
            (self._open.discard if data.endswith(b"\n") else self._open.add)(stream)

    def progress(self, progress: Progress) -> None:
        """Say now and then how far the run is."""
        if time.monotonic() - self._last > self._EVERY:
            self._last = time.monotonic()
            self.say(status(progress))

    def say(self, text: str) -> None:
        """A line on stderr."""
        with self._lock:
            self._end_line(2)
            write_all(2, f"repro-audit: {text}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        """Leave stderr at the beginning of a line: an error may follow."""
        with self._lock:
            self._clear()
            self._end_line(2)

    def make_room(self) -> None:
        """Begin a line on stdout: a report follows. What is only passed on stays as it is, with or without an end of its last line."""
        with self._lock:
            self._end_line(1)

    def _clear(self) -> None:
        """Take away what is shown between the script's lines."""

    def _end_line(self, stream: int) -> None:
        if stream in self._open:
            write_all(stream, b"\n")
            self._open.discard(stream)


class LiveScreen(PlainScreen):
    """A status line below the script's output, taken away before the script writes and while it is in the middle of a line."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = False
        self._here = {stream for stream in (1, 2) if os.isatty(stream)}

    def progress(self, progress: Progress) -> None:
        """Redraw the status line."""
        with self._lock:
            if self._open & self._here:
                return
            self._clear()
            width = os.get_terminal_size(2).columns or 80  # some terminals do not know theirs
            write_all(2, _dim(f"repro-audit  {status(progress)}"[: width - 1]).encode(errors="backslashreplace"))
            self._shown = True

    def say(self, text: str) -> None:
        """A line of its own."""
        with self._lock:
            self._clear()
            self._end_line(2)
            write_all(2, (_dim(f"repro-audit  {text}") + "\n").encode(errors="backslashreplace"))

    def _end_line(self, stream: int) -> None:
        """On one terminal, a line that the script left open on either stream is the same one."""
        together = self._here if stream in self._here else {stream}
        if self._open & together:
            write_all(stream, b"\n")
            self._open -= together

    def _clear(self) -> None:
        if self._shown:
            write_all(2, b"\r\x1b[2K")
            self._shown = False


def _dim(text: str) -> str:
    return text if os.environ.get("NO_COLOR") else f"\x1b[2m{text}\x1b[0m"


def status(progress: Progress) -> str:
    """How far a run is, in a few words."""
    steps = f"{progress.steps:,} step{'' if progress.steps == 1 else 's'}"
    far = f"  {steps}  {progress.records:,} events" if progress.steps else ""
    return f"{progress.run}  {progress.seconds:.0f} s{far}"


def screen() -> PlainScreen:
    """The screen that fits stderr."""
    return LiveScreen() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else PlainScreen()


def write_all(fd: int, data: bytes) -> None:
    """Write everything; a reader that went away is no error of ours."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            return
