"""Writes reports: to a file completely or not at all, to a stream in its encoding."""

from __future__ import annotations

import io
import os
import signal
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from auditor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def forgiving(out: TextIO) -> TextIO:
    """The stream, set to escape characters that its encoding does not have."""
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")
    return out


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is never there in part: beside it, and then in its place. Raises OSError.

    A link stays one, and a file keeps its mode. What is no regular file, such as a pipe, and a file in a folder in which nothing can be
    made are written as they are.
    """
    place = Path(os.path.realpath(path))
    mode = place.stat().st_mode if place.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        place.write_bytes(data)
        return
    if mode is not None:
        place.open("r+b").close()  # a read-only file is not replaced
    beside = place.with_name(f".repro-audit-{os.getpid()}.tmp")
    try:
        beside.unlink(missing_ok=True)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError:
        if mode is None:
            raise
        place.write_bytes(data)
        return
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        if mode is not None:
            beside.chmod(stat.S_IMODE(mode))
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def writing_to_stdout() -> Iterator[None]:
    """Write what was asked for: where nobody reads on, end quietly (`repro-audit show RUN | head`); where there is no space, say so.

    Only here: a run goes on to its end and is kept although nobody reads what the script prints. Raises `UsageError` `output-unwritable`.
    """
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    forgiving(sys.stdout)
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer is not written once more when Python ends
        raise UsageError("output-unwritable", f"cannot write to stdout: {error.strerror}") from error


def refuse_unwritable(paths: list[Path]) -> None:
    """Refuse output paths that would only fail after the runs. Raises `UsageError`: `same-output`, `output-unwritable`."""
    named = [os.path.abspath(path) for path in paths]  # noqa: PTH100  # not through links: what was typed twice
    twice = next((path for path, name in zip(paths, named, strict=True) if named.count(name) > 1), None)
    if twice is not None:
        raise UsageError("same-output", f"two reports cannot both be written to {'stdout' if str(twice) == '-' else twice}")
    for path in paths:
        if str(path) == "-":
            continue
        try:
            if path.is_file() or path.is_dir():
                path.open("ab").close()
            elif not path.exists():  # what is neither, such as a pipe, would see its only writer come and go
                path.touch()
                path.unlink()
        except OSError as error:
            raise UsageError("output-unwritable", f"cannot write {path}: {error.strerror}") from error
