"""The story as text for a terminal: in its colours, as wide as it is; with the evidence behind it where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from auditor.report.console import shapes
from auditor.report.console.details import details
from auditor.report.story import story
from auditor.report.story.rows import Diff, Entry, Fact, Frame, More, Row, Section, Sides, Story
from auditor.report.words import text as texts
from auditor.report.words.patches import diff_lines
from auditor.report.words.text import LONG, plain
from auditor.results import Audit

#: Columns where there is no terminal, and the most that are used on one: longer lines are hard to read.
_WIDTH, _WIDEST = 100, 160
#: Most lines of a patch.
_DIFF = 40

_LABELS = {
    "diverged": "bold white on red",
    "no-divergence-seen": "bold black on green",
    "inconclusive": "bold black on yellow",
}
_TONES = {"": "", "bad": "bold red", "doubt": "yellow", "good": "green", "quiet": "dim"}


def render(audit: Audit, out: TextIO) -> None:
    """Print the report, in colour and as wide as the terminal where `out` is one."""
    _print(_short(story(audit)), out)


def render_verbose(audit: Audit, out: TextIO) -> None:
    """Print the report with nothing cut, and behind it the evidence: tensors, ops, proofs by their runs, devices, all runs."""
    told = story(audit, verbose=True)
    _print([*_blocks(told), *details(audit), *_end(told)], out)


def _print(blocks: list[RenderableType] | Iterator[RenderableType], out: TextIO) -> None:
    console = _console(out)
    with console.capture() as capture:
        for k, block in enumerate(blocks):
            if k:
                console.print()
            console.print(block)
    texts.write(out, "".join(line.rstrip(" ") + "\n" for line in capture.get().splitlines()))


def _console(out: TextIO) -> Console:
    """A console without any escape codes where NO_COLOR is set: rich by itself would still write bold and dim."""
    console = Console(
        file=out,
        width=None if out.isatty() else _WIDTH,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        markup=False,
        highlight=False,
        emoji=False,
    )
    console.width = min(console.width, _WIDEST)
    return console


def _short(told: Story) -> Iterator[RenderableType]:
    yield from _blocks(told)
    yield from _end(told)


def _blocks(told: Story) -> Iterator[RenderableType]:
    label = Text(told.label, _LABELS[told.verdict])
    lines: list[RenderableType] = [shapes.table([[label, Text(plain(told.headline, LONG), "bold")]])]
    if told.facts:
        lines.append(shapes.indented(_facts(told.facts)))
    yield Group(*lines)
    yield from map(_section, told.sections)


def _end(told: Story) -> Iterator[RenderableType]:
    lines: list[RenderableType] = [Text(plain(line, LONG), "dim") for line in told.tail]
    if told.next is not None:
        command, what = told.next
        lines.append(Text.assemble("Next: ", (command, "bold"), f"   {what}", overflow="fold"))
    yield Group(*lines)


def _section(section: Section) -> RenderableType:
    lines: list[RenderableType] = [Text(plain(section.title, LONG), "bold")] if section.title else []
    facts: list[Fact] = []
    for row in section.rows:
        if isinstance(row, Fact):
            facts.append(row)
            continue
        if facts:
            lines.append(shapes.indented(_facts(facts)))
            facts = []
        lines.append(shapes.indented(_row(row)))
    if facts:
        lines.append(shapes.indented(_facts(facts)))
    return Group(*lines)


def _row(row: Row) -> RenderableType:
    if isinstance(row, Fact):
        return _facts([row])
    if isinstance(row, Frame):
        return _frame(row)
    if isinstance(row, Sides):
        return _sides(row)
    if isinstance(row, Diff):
        return shapes.diff(diff_lines(row.patch, _DIFF))
    return Text(row.text, "dim") if isinstance(row, More) else _entry(row)


def _facts(facts: list[Fact] | tuple[Fact, ...]) -> RenderableType:
    return shapes.table([[Text(fact.name, _TONES[fact.tone] or "dim"), Text(plain(fact.text, LONG))] for fact in facts])


def _entry(entry: Entry) -> RenderableType:
    """`error  stale-gradient  train.py:58`, the sentence below it; what is short is one line."""
    style = shapes.LEVELS.get(entry.level) or _TONES[entry.tone] or "bold cyan"
    place = Text(texts.place(entry.file, entry.line), "cyan") if entry.file else Text()
    parts = [Text(entry.level, style), shapes.text(entry.title, "bold"), place]
    title = Text("  ").join([part for part in parts if part.plain])
    sentence = Text(plain(entry.text, LONG))
    lines: list[RenderableType] = []
    if not title.plain:
        lines.append(shapes.item(entry.text))
    elif sentence.plain and not entry.rows and len(title.plain) + len(sentence.plain) <= _SHORT:
        lines.append(Text("  ").join([title, sentence]))
    else:
        lines += [shapes.cropped(title), *([shapes.indented(sentence)] if sentence.plain else [])]
    facts = [row for row in entry.rows if isinstance(row, Fact)]
    lines += [shapes.indented(_row(row)) for row in entry.rows if not isinstance(row, Fact)]
    return Group(*lines, *([shapes.indented(_facts(facts))] if facts else []))


#: Most characters of an entry that is one line.
_SHORT = 72


def _frame(frame: Frame) -> RenderableType:
    """Lines of code with their numbers, as a compiler shows them, and below the line what is to be said of it."""
    digits = max((len(str(number)) for number, _ in frame.lines if number is not None), default=1)
    lines: list[RenderableType] = [Text(texts.place(frame.file, frame.line), "cyan", overflow="fold")] if frame.file else []
    for number, code in frame.lines:
        its = number == frame.line
        text = Text.assemble((f"{'' if number is None else number:>{digits}} │ ", "dim"), (code, "bold" if its else "dim"))
        lines.append(shapes.cropped(text))
        if its and frame.under:
            lines.append(Text.assemble((f"{'':{digits}} │ ", "dim"), (frame.under, "red")))
    return Group(*lines)


def _sides(sides: Sides) -> RenderableType:
    """Lines of both programs, each in its half of the width; the line of the name is marked."""
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_row(*(Text(texts.place(side.file, side.line), "cyan") for side in (sides.a, sides.b)))
    for k in range(max(len(sides.a.lines), len(sides.b.lines))):
        cells = []
        for side in (sides.a, sides.b):
            number, code = side.lines[k] if k < len(side.lines) else (None, "")
            style = "bold" if number == side.line else "dim"
            cells.append(Text("" if number is None else f"{number:>4} {'→' if number == side.line else '│'} {code}", style))
        grid.add_row(*cells)
    return grid
