"""How text, places and tables look in a terminal.

All is `rich.text.Text`, never markup: `[red]` in somebody's source is those five characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from auditor.report.words import text as texts
from auditor.report.words.text import LONG, plain

#: Columns that are enough for a remark on a run.
_REMARK = 20
#: Levels by colour; the word stands beside it.
LEVELS = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
_DIFF_COLORS = {"+": "green", "-": "red"}


class Beside:
    """A text of so many columns and a remark beside it; below it where little room is left."""

    def __init__(self, text: Text, columns: int, remark: Text) -> None:
        self.text, self.columns, self.remark = text, columns, remark

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """What rich prints."""
        if not self.remark:
            yield self.text
        elif options.max_width - self.columns - 2 < min(_REMARK, self.remark.cell_len):
            yield from (self.text, indented(self.remark))
        else:
            grid = Table.grid(padding=(0, 2))
            grid.add_column(width=self.columns)
            grid.add_column(overflow="fold")
            grid.add_row(self.text, self.remark)
            yield grid


def section(title: str | Text, *lines: RenderableType) -> RenderableType:
    """A title and, indented below it, its lines."""
    return Group(title if isinstance(title, Text) else text(title, "bold"), *map(indented, lines))


def indented(line: RenderableType, columns: int = 2) -> RenderableType:
    """Something moved to the right."""
    return Padding(line, (0, 0, 0, columns))


def item(text: str) -> RenderableType:
    """An entry of a list."""
    return table([[Text("-", "dim"), long(text)]], gap=1)


def header(*names: str) -> list[Text]:
    """The first row of a table."""
    return [text(name, "dim") for name in names]


def text(value: object, style: str = "") -> Text:
    """Any value as text that wraps at words; nothing for None."""
    return Text("" if value is None else plain(value), style)


def long(value: str, style: str = "") -> Text:
    """What is made of many parts, each of which is short."""
    return Text(plain(value, LONG), style)


def folded(path: str) -> Text:
    """A path, whole: it may have to be copied."""
    return Text(texts.path(path), overflow="fold")


def cropped(text: Text) -> Text:
    """A line that ends where the terminal does."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def source(file: str | None, line: int | None, code: Text) -> Text:
    """`train.py:31 │ loss.backward()`, cropped."""
    text = Text(texts.place(file, line), "cyan")
    return cropped(Text.assemble(text, (" │ ", "dim"), code) if code else text)


def where(file: str | None, line: int | None) -> Text:
    """`train.py:31`; nothing where no file is known."""
    return Text(texts.place(file, line), "cyan") if file else Text()


def pair(a: str | None, b: str | None) -> list[Text]:
    """A value in either run; of long ones what stands around their first difference."""
    shown = texts.contrasted(a, b)
    return [Text("none", "dim") if value is None else text(said) for value, said in zip((a, b), shown, strict=True)]


def table(rows: list[list[Text]], gap: int = 2) -> Table:
    """Columns that wrap, and fold words, where the terminal is too narrow for them."""
    grid = Table.grid(padding=(0, gap))
    for _ in rows[0]:
        grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def aligned(rows: list[list[Text]]) -> list[Text]:
    """One text a row, so that others can stand between them; each cell padded to the width of its column."""
    widths = [max(cell_len(row[k].plain) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        line = Text()
        for cell, width in zip(row, widths, strict=True):
            gap = " " * (width - cell_len(cell.plain))
            line.append_text(Text.assemble(gap, cell) if cell.justify == "right" else Text.assemble(cell, gap))
            line.append("  " if width else "")
        line.rstrip()
        lines.append(line)
    return lines


def diff(lines_: Sequence[str]) -> RenderableType:
    """A patch; the sign of a line has a column of its own, so that what is folded is told from the next line."""
    lines: list[RenderableType] = []
    for line in lines_:
        style = _DIFF_COLORS.get(line[:1], "")
        if line.startswith(("--- ", "+++ ", "@@", "\\", "...")):
            lines.append(Text(line, "dim", overflow="fold"))
        else:
            lines.append(table([[Text(line[:1], style), Text(line[1:].expandtabs(8), style)]], gap=0))
    return Group(*lines)
