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

    def output(self, stream: int, data: bytes) -> None:
        """Pass on what the script wrote."""
        write_all(stream, data)

    def progress(self, progress: Progress) -> None:
        """Say now and then how far the run is."""
        if time.monotonic() - self._last > self._EVERY:
            self._last = time.monotonic()
            self.say(status(progress))

    def say(self, text: str) -> None:
        """A line on stderr."""
        write_all(2, f"repro-audit: {text}\n".encode())

    def close(self) -> None:
        """Nothing to clear."""


class LiveScreen(PlainScreen):
    """A status line below the script's output, taken away before the script writes and while it is in the middle of a line."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._shown = False
        self._at_line_start = True

    def output(self, stream: int, data: bytes) -> None:
        """Pass on what the script wrote, without our line in it."""
        with self._lock:
            self._clear()
            write_all(stream, data)
            self._at_line_start = data.endswith(b"\n")

    def progress(self, progress: Progress) -> None:
        """Redraw the status line."""
        with self._lock:
            if not self._at_line_start:
                return
            self._clear()
            width = os.get_terminal_size(2).columns if os.isatty(2) else 80
            write_all(2, ("\x1b[2m" + f"repro-audit  {status(progress)}"[: width - 1] + "\x1b[0m").encode())
            self._shown = True

    def say(self, text: str) -> None:
        """A line of its own."""
        with self._lock:
            self._clear()
            if not self._at_line_start:
                write_all(2, b"\n")
                self._at_line_start = True
            write_all(2, f"\x1b[2mrepro-audit  {text}\x1b[0m\n".encode())

    def close(self) -> None:
        """Take the status line away."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        if self._shown:
            write_all(2, b"\r\x1b[2K")
            self._shown = False


def status(progress: Progress) -> str:
    """How far a run is, in a few words."""
    far = f"  {progress.steps:,} steps  {progress.records:,} ops" if progress.steps else ""
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
