"""How the program ends: each error of ours in one sentence with its slug, and a request to end as Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from auditor.errors import AuditError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What typer raises for a command line that it does not understand; typer exports only this child of it.
WrongUsage: Any = typer.BadParameter.__base__
#: Signals that ended us; what fails behind one fails because of it.
ended_by: list[int] = []


def hold_closed_streams() -> None:
    """Occupy the numbers of closed streams: a file that we open must not become our stdin, stdout or stderr."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def end_cleanly() -> None:
    """Treat a request to end as Ctrl-C: what was started is ended, copies are removed, and what was recorded is kept."""

    def asked(number: int, _frame: object) -> None:
        ended_by.append(number)
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not below nohup
            signal.signal(number, asked)


def interrupted() -> int:
    """Say that we were asked to end; returns the status that a shell would give."""
    number = ended_by[0] if ended_by else signal.SIGINT
    say("interrupted: what was recorded is kept [interrupted]")
    return 128 + number


@contextmanager
def plain_errors() -> Iterator[None]:
    """An error of ours is one sentence with its slug."""
    try:
        yield
    except AuditError as error:
        if ended_by:
            raise typer.Exit(interrupted()) from None
        say(str(error))
        raise typer.Exit(error.exit_status) from None
    except KeyboardInterrupt:
        raise typer.Exit(interrupted()) from None


def refuse_usage(error: Any) -> int:
    """Say what of a command line is not understood; returns the status."""
    if error.ctx is not None:
        print(error.ctx.get_usage(), f"Try '{error.ctx.command_path} --help' for help.", sep="\n", end="\n\n", file=sys.stderr)
    said = error.format_message().rstrip(".")
    say(f"{said[:1].lower()}{said[1:]} [wrong-usage]")
    return UsageError.exit_status


def fault_sentence(error: Exception) -> str:
    """One sentence on what should not happen, with where its details are: a file of its owner's alone, without credentials."""
    import tempfile
    import traceback

    from auditor.redaction import redacted

    what = f"{type(error).__name__}: {str(error)[:200]}"
    try:
        fd, name = tempfile.mkstemp(prefix="repro-audit-error-", suffix=".txt")
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(redacted("".join(traceback.format_exception(error))))
        where = f"the details are in {name}"
    except OSError:
        where = "the details could not be written"
    return f"an error of repro-audit itself, please report it: {what}; {where} [internal-error]"


def say(text: str) -> None:
    """One line of ours on stderr."""
    said = f"repro-audit: {printable(text)}\n"
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    try:
        sys.stderr.write(said.encode(encoding, "backslashreplace").decode(encoding))
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads on


def printable(text: str) -> str:
    """A text in which nothing acts on a terminal and no credential stands: control characters and the like are escapes."""
    from auditor.redaction import redacted

    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in redacted(text))
