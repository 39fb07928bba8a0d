"""Progress display while runs are made: one status line on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import os
import sys
import threading
import time

from auditor.launch import Progress


class PlainScreen:
    """One line when a run starts, and one per minute."""

    _EVERY = 60.0

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._lock = threading.Lock()
        self._open: set[int] = set()  # streams on which the script's last line is not finished

    def output(self, stream: int, data: bytes) -> None:
        """Pass on what the script wrote."""
        with self._lock:
            self._clear()
            write_all(stream, data)
            (self._open.discard if data.endswith(b"\n") else self._open.add)(stream)

    def progress(self, progress: Progress) -> None:
        """Report from time to time how far the run is."""
        if time.monotonic() - self._last > self._EVERY:
            self._last = time.monotonic()
            self.say(status(progress))

    def say(self, text: str) -> None:
        """Write a line on stderr."""
        with self._lock:
            self._end_line(2)
            write_all(2, f"repro-audit: {text}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        """End an unfinished line on stderr, as an error message may follow."""
        with self._lock:
            self._clear()
            self._end_line(2)

    def make_room(self) -> None:
        """End an unfinished line on stdout before a report. Output without a report is passed on exactly, unfinished last line included."""
        with self._lock:
            self._end_line(1)

    def _clear(self) -> None:
        """Erase what is shown between the script's lines."""

    def _end_line(self, stream: int) -> None:
        if stream in self._open:
            write_all(stream, b"\n")
            self._open.discard(stream)


class LiveScreen(PlainScreen):
    """A status line below the script's output, erased before the script writes and while its line is unfinished."""

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
            width = os.get_terminal_size(2).columns or 80  # some terminals report a width of 0
            write_all(2, _dim(f"repro-audit  {status(progress)}"[: width - 1]).encode(errors="backslashreplace"))
            self._shown = True

    def say(self, text: str) -> None:
        """Write a line of its own."""
        with self._lock:
            self._clear()
            self._end_line(2)
            write_all(2, (_dim(f"repro-audit  {text}") + "\n").encode(errors="backslashreplace"))

    def _end_line(self, stream: int) -> None:
        """On one terminal, an unfinished line of the script on either stream is the same line."""
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
    """The screen for this stderr."""
    return LiveScreen() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else PlainScreen()


def write_all(fd: int, data: bytes) -> None:
    """Write everything; a closed reader is not an error."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            return
