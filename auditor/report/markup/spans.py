"""Text, code and cells in Markdown: whatever a script says stays text."""

from __future__ import annotations

import html
import re

from auditor.report.words.text import plain

#: Most characters of a value in a code span.
_VALUE = 120
#: What would be markup in prose: code, cells, emphasis (not within a word), links, and what begins a heading or a list.
_MARKUP = re.compile(r"[\\`*|~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])|^[\[#+=-]")
_NUMBERED = re.compile(r"^(\d+)([.)])")


def fence_for(content: str) -> str:
    """The marks of a fence: more backticks than the content has in a row."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))


def text(value: object, most: int = 400) -> str:
    """Prose in which nothing is markup, and no more is escaped than must be: a chat shows the source."""
    return html.escape(_NUMBERED.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", plain(value, most))), quote=False)


def code(value: object, most: int = _VALUE) -> str:
    """A code span, delimited by more backticks than the value has in a row."""
    shown = plain(value, most)
    ticks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if "`" in shown[:1] + shown[-1:] else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}" if shown else ""


def cell(value: object) -> str:
    """A code span in a table, where a `|` ends the cell even within backticks."""
    shown = plain(value, _VALUE)
    if "|" in shown or "`" in shown:
        return f"<code>{re.sub(r'[^0-9A-Za-z ]', lambda found: f'&#{ord(found[0])};', shown)}</code>"
    return code(value)
