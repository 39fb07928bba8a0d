"""The story in Markdown; the evidence and the runs are folded away.

What comes from the user stands in a fence, in code spans, or escaped: `|` ends no cell, and `<script>` is text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from auditor.report.markup.details import folded
from auditor.report.markup.spans import code, fence_for, text
from auditor.report.story import story
from auditor.report.story.rows import Diff, Entry, Fact, Frame, More, Section, Sides
from auditor.report.words import text as texts
from auditor.report.words.patches import diff_lines
from auditor.report.words.text import LONG, plain
from auditor.results import Audit

#: Most lines of a patch, and most characters of a sentence in a list.
_DIFF, _SAID = 20, 600


def render(audit: Audit, out: TextIO) -> None:
    """Write the audit as GitHub-flavoured Markdown."""
    blocks = ["\n".join(block) for block in map(list, _blocks(audit)) if block]
    texts.write(out, "\n\n".join(blocks) + "\n")


def _blocks(audit: Audit) -> Iterator[list[str] | Iterator[str]]:
    told = story(audit)
    yield [f"**{told.label}** {text(told.headline, LONG)}"]
    yield [_fact(fact) for fact in told.facts]
    for section in told.sections:
        yield from _section(section)
    yield [text(line, LONG) for line in told.tail]
    if told.next is not None:
        command, what = told.next
        yield [f"Next: {code(command, LONG)} {text(what)}"]
    yield from folded(audit)


def _section(section: Section) -> Iterator[list[str]]:
    """A title, the entries of its list, and code in fences between paragraphs."""
    lines = [f"**{text(section.title, LONG)}**", ""] if section.title else []
    frames = [row for row in section.rows if isinstance(row, Frame)]
    lines += _frames(frames) if frames else []
    for row in section.rows:
        if isinstance(row, Frame):
            continue
        if isinstance(row, Fact):
            lines.append(_fact(row))
        elif isinstance(row, More):
            lines.append(f"- {text(row.text)}")
        elif isinstance(row, Entry):
            lines += _entry(row)
        elif isinstance(row, Diff):
            lines += _diff(row)
        else:
            lines += _frames([row.a, row.b])
    yield _without_last_blank(lines)


def _without_last_blank(lines: list[str]) -> list[str]:
    return lines[:-1] if lines and not lines[-1] else lines


def _fact(fact: Fact) -> str:
    return f"- {text(fact.name)}: {text(fact.text, LONG)}"


def _entry(entry: Entry) -> list[str]:
    where = code(texts.place(entry.file, entry.line)) if entry.file else ""
    title = " ".join(filter(None, [text(entry.level), f"**{text(entry.title)}**" if entry.title else "", where]))
    said = text(entry.text, _SAID)
    lines = [f"- {title}{': ' if title and said else ''}{said}"]
    for row in entry.rows:
        if isinstance(row, Fact):
            lines.append(f"  {_fact(row)}")
        elif isinstance(row, Sides) or len(row.lines) > 1:
            shown = _frames([row.a, row.b] if isinstance(row, Sides) else [row])
            lines += ["", *(f"  {line}".rstrip() for line in shown)]
        else:
            lines.append(f"  - {code(row.lines[0][1])}")
    return lines


def _frames(frames: list[Frame]) -> list[str]:
    """Code in one fence, longer than any run of backticks in it; above each line's neighbours where they are, and what is to be said."""
    shown = []
    for frame in frames:
        head = filter(None, [texts.place(frame.file, frame.line) if frame.file else "", plain(frame.under)])
        shown += [f"# {'  '.join(head)}"] if frame.file or frame.under else []
        shown += [
            f"{'' if number is None else number:>4} {'>' if number == frame.line else ' '} {line}".rstrip() for number, line in frame.lines
        ]
    fence = fence_for("\n".join(shown))
    return [f"{fence}python", *shown, fence, ""]


def _diff(row: Diff) -> list[str]:
    """A patch, in a fence longer than any run of backticks in it."""
    lines = diff_lines(row.patch, _DIFF)
    fence = fence_for("\n".join(lines))
    return [f"{fence}diff", *lines, fence]
