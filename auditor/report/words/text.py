"""How any text gets into a report: what comes from the user goes through `plain`; names, places and lists read alike everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

#: What stands in an audit for a number that is not finite.
INFINITE = 1e300
#: Eighths of a cell, filled from below.
EIGHTHS = " ▁▂▃▄▅▆▇█"
#: Most characters of a sentence that is made of many parts.
LONG = 2_000


#: What stands in the place of an op and is none.
NO_OPS = {"external": "external tensor", "end-of-run": "end of the run"}
#: Most characters of a value that stands beside another one.
_CONTRAST = 60


def plain_line(code: str) -> str:
    """A line of code with its indentation."""
    return verbatim(code.rstrip().expandtabs(8))


def verbatim(line: str) -> str:
    """A line of code with its blanks and tabs; control characters and the like are shown as escapes."""
    text = "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line[:2_000])
    return text if len(text) <= 1_000 else f"{text[:999]}…"


def percent(rate: float) -> str:
    """A rate in percent; it is 0 or 100 only where it is not a little more or less."""
    shown = f"{100 * rate:.0f}"
    return f"{100 * rate:.2g}" if shown == "0" and rate else f"{100 * rate:.1f}" if shown == "100" and rate != 1 else shown


def contrasted(a: object, b: object) -> tuple[str, str]:
    """Two values; of long ones what stands around their first difference."""
    x, y = plain(a, 100_000), plain(b, 100_000)
    cut = next((k for k, (c, d) in enumerate(zip(x, y, strict=False)) if c != d), min(len(x), len(y))) - 12
    if cut > 0 and max(len(x), len(y)) > _CONTRAST:
        x, y = f"…{x[cut:]}", f"…{y[cut:]}"
    return plain(x, _CONTRAST), plain(y, _CONTRAST)


def plain(value: object, most: int = 400) -> str:
    """One line of at most `most` printable characters.

    White space is a blank; control characters, bidirectional marks and lone surrogates are shown as escapes. So nothing
    that a script prints, contains or is named can act on a terminal, break an encoding or bury the rest of a report.
    """
    text = str(value)[: 2 * most].strip()
    text = "".join(c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def path(value: object) -> str:
    """A path that may have to be copied: plain, and never shortened."""
    return plain(value, 10_000)


def counted(amount: int, noun: str) -> str:
    """`1 op`, `1,234 ops`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def listed(names: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = [plain(name) for name in names] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def place(file: str | None, line: int | None) -> str:
    """`train.py:31`, as editors and terminals understand it."""
    if not file:
        return "no line of the script"
    return path(file) if line is None else f"{path(file)}:{line}"


def op_name(op: str) -> str:
    """The overload name; what is not an op, in words."""
    return NO_OPS.get(op) or plain(op)


_ASCII = str.maketrans({"→": ">", "≠": "*", "│": "|", "…": "~"})


def write(out: TextIO, text: str) -> None:
    """Write a whole report, in characters that the stream's encoding has: no verdict is lost to `LANG=C`."""
    encoding = out.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    out.write(text)
