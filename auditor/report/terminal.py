"""The report that is printed when an audit ends: what a person understands in ten seconds, then what explains it.

All text is `rich.text.Text`, never markup: `[red]` in somebody's source is those five characters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from auditor import report as words
from auditor.report import Report
from auditor.report.words import devices, programs
from auditor.report.words import text as texts
from auditor.report.words.text import plain
from auditor.results import (
    Audit,
    Cause,
    DeviceComparison,
    Difference,
    Divergence,
    Evidence,
    Finding,
    NamePair,
    OpError,
    OpLine,
    Patch,
    Shadowed,
    Stream,
)

#: Columns where there is no terminal, and the most that are used on one: longer lines are hard to read.
_WIDTH, _WIDEST = 100, 160
#: Most facts of the environment, and most tensors of one op, that are listed; the others are counted.
_FACTS = 8
_TENSORS = 6
#: Most lines of a patch.
_DIFF = 40
#: Most names that differ by themselves and are shown with their code, most names in the table, without a counterpart, and as curves.
_ORIGINS, _NAMES, _UNALIGNED, _CURVES = 4, 40, 12, 6
#: Most ops that are listed with their errors.
_MOST = 6
#: Columns of the bars that show how devices drift apart.
_BARS = 72
#: Columns that are enough for a remark on a run.
_REMARK = 20

_LABELS = {
    "diverged": "bold white on red",
    "no-divergence-seen": "bold black on green",
    "inconclusive": "bold black on yellow",
}
_LEVELS = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
_DIFF_COLORS = {"+": "green", "-": "red"}
#: How an op is marked in the strip, and in which colour.
_SAME, _FIRST, _CARRIES = ("=", "green"), ("→", "bold red"), ("≠", "yellow")


def render(audit: Audit, out: TextIO) -> None:
    """Print the report, in colour and as wide as the terminal where `out` is one."""
    console = _console(out)
    with console.capture() as capture:
        for k, section in enumerate(_sections(audit)):
            if k:
                console.print()
            console.print(section)
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


def _sections(audit: Audit) -> Iterator[RenderableType]:
    divergence = audit.divergence
    if audit.environment and words.is_diff(audit):
        yield _environment(audit)
    yield _headline(audit)
    if programs.is_match(audit):
        yield from _match(audit)
    explaining = words.explaining(audit)
    if explaining is not None:
        yield _indented(_finding(explaining, []))
    causes, unexplained = words.leading(audit), words.without_cause(audit)
    yield from (_cause(cause, audit) for cause in causes)
    if unexplained:
        yield _indented(_table([[_text(name, "bold yellow"), _long(sentence)] for name, sentence in unexplained]))
    if divergence is not None:
        source = [_source(divergence.file, divergence.line, _text(divergence.code, "bold"))] if divergence.code else []
        if causes or unexplained:
            yield _section("The first difference", *source, _facts(divergence))
        else:
            yield from map(_indented, [*source, _facts(divergence)])
    if divergence is not None:
        yield from _explained(divergence)
    if audit.others:
        others = [_other(lanes, other) for lanes, other in words.others(audit)]
        yield _section("First difference of other lanes", _table(others))
    if audit.side:
        yield _section(words.SIDE, *(_aside(side) for side in audit.side))
    rounding = words.sensitive(audit)
    if rounding:
        yield _section(words.SENSITIVE, *(_sensitive(cause, audit) for cause in rounding))
    yield from (_devices(comparison) for comparison in audit.devices)
    if audit.shadow is not None:
        yield _shadow(audit.shadow)
    seen, forecast = words.seen(audit), words.forecast(audit)
    if seen:
        yield _section("Findings", *(_finding(finding, others) for finding, others in words.grouped(seen)))
    if forecast:
        title = Text.assemble((words.FORECAST, "bold"), (f"   {words.FORETOLD}", "dim"))
        yield _section(title, *map(_foretold, forecast))
    if audit.environment and not words.is_diff(audit):
        yield _environment(audit)
    missed = [_item(what) for what in words.not_covered(audit)]
    if missed or not programs.is_match(audit):
        yield _section("Coverage", _text(words.covered(audit)), *missed)
    if audit.runs:
        yield _runs(audit)
    if audit.notes:
        yield _section("Notes", *(_item(note) for note in audit.notes))


def _headline(audit: Audit) -> RenderableType:
    label = _text(words.label(audit), _LABELS[audit.verdict])
    sentence = _table([[label, Text(plain(words.headline(audit), words.LONG), "bold")]])
    caveat = words.caveat(audit)
    return Group(sentence, Text(), _indented(_long(caveat))) if caveat else sentence


def _facts(divergence: Divergence) -> RenderableType:
    """What is known of the divergent op, one fact a line."""
    forward, seen = divergence.detail.forward, divergence.detail.seen_at
    meaning = _text(words.MEANINGS[divergence.kind])
    if divergence.sentence:
        meaning.append("\n").append_text(_text(divergence.sentence))
    rows = [[_text(divergence.kind, "bold red"), meaning]]
    rows += [[_text(name, "dim"), _text(fact)] for name, fact in words.facts(divergence)]
    for name, line in (("forward", forward), ("memory of", divergence.detail.allocated)):
        if line is not None:
            rows.append([_text(name, "dim"), _source(line.file, line.line, _text(line.code))])
    if seen is not None:
        rows.append([_text("seen at", "dim"), _source(seen.file, seen.line, _text(seen.code))])
        rows.append([Text(), _text(f"{texts.op_name(seen.op)} (op {seen.index})")])
    return _table(rows)


def _explained(divergence: Divergence) -> Iterator[RenderableType]:
    """What is not the same about the two runs, from the divergent op outwards."""
    detail = divergence.detail
    sides = words.sides(divergence)
    if sides:
        rows = [_header("", *divergence.runs), *([_text(value) for value in side] for side in sides)]
        yield _section(f"The two runs at {words.shown_at(divergence)}", _table(rows))
    if detail.evidence is not None and (detail.evidence.inputs or detail.evidence.outputs):
        yield _evidence(detail.evidence, divergence)
    if detail.before or detail.seen_at or detail.carriers:
        yield _strip(divergence)
    if detail.streams:
        yield _section("Random streams, seeds and settings that differ before it", _streams(detail.streams))
    if detail.files:
        files = [[_folded(file.path), _text(file.op, "dim"), _text(file.what), _where(file.file, file.line)] for file in detail.files]
        yield _section("Files that differ before it", _table(files))


def _evidence(evidence: Evidence, divergence: Divergence) -> RenderableType:
    """What went in and what came out: one line a tensor, and below it the first element that differs."""
    rows = [_header("", "", "elements", "largest", "relative", "ULP")]
    below: dict[int, list[Text]] = {}
    for tensors in (evidence.inputs, evidence.outputs):
        shown = words.most_telling(tensors, _TENSORS)
        for difference in shown:
            rows.append(_measured(difference))
            below[len(rows) - 1] = _first_element(difference)
        if len(shown) < len(tensors):
            below[len(rows) - 1].append(_text(words.and_more(tensors, shown), "dim"))
    op, runs = words.shown_at(divergence), " against ".join(evidence.runs or divergence.runs)
    lines: list[RenderableType] = []
    if evidence.sentence and evidence.sentence != divergence.sentence:
        lines.append(_text(evidence.sentence))
    for k, row in enumerate(_aligned(rows)):
        lines += [row, *(_indented(line, 6) for line in below.get(k, ()))]
    title = f"What went into {op} and what came out" if evidence.inputs else f"What came out of {op}"
    return _section(f"{title}: {runs}", *lines)


def _measured(difference: Difference) -> list[Text]:
    differs = difference.differs
    return [
        _text(difference.slot, "bold" if differs else "dim"),
        _text(words.tensor(difference), "" if differs else "dim"),
        _text(words.elements(difference), "bold red" if differs else "green"),
        _text(words.number(difference.absolute)),
        _text(words.number(difference.relative)),
        _text(words.ulps(difference.ulp)),
    ]


def _first_element(difference: Difference) -> list[Text]:
    lines = []
    if difference.first is not None:
        lines.append(_text(f"first at {difference.first}: {difference.a} | {difference.b}"))
    return lines + [_text(remark, "yellow") for remark in words.remarks(difference)]


def _strip(divergence: Divergence) -> RenderableType:
    """The ops just before the divergence, its own and the first that carry it on, under their lines of code."""
    detail = divergence.detail
    origin = OpLine(**divergence.model_dump(include={"file", "line", "code", "index", "op", "phase", "step"}))
    shown = [(line, _CARRIES if line.differs else _SAME) for line in detail.before]
    shown += [(line, _CARRIES) for line in [*([detail.seen_at] if detail.seen_at else []), *detail.carriers]]
    # a draw or a seed has the number of the op that follows it
    at = next((k for k, (line, _) in enumerate(shown) if line.index >= origin.index), len(shown))
    shown.insert(at, (origin, _FIRST))
    digits = max(len(str(line.index)) for line, _ in shown)
    lines: list[RenderableType] = []
    source: tuple[str | None, int | None] | None = None
    moment = ""
    for line, (mark, color) in shown:
        if (line.file, line.line) != source:
            source = line.file, line.line
            lines.append(_source(line.file, line.line, _text(line.code)))
        entry = Text.assemble("  ", (mark, color), f" {line.index:>{digits}}  ")
        entry.append(texts.op_name(line.op), "bold" if line is origin else "")
        remarks = [words.when(line) if words.when(line) != moment else "", plain(line.note)]
        entry.append("".join(f"  {remark}" for remark in remarks if remark), "dim")
        moment = words.when(line)
        lines.append(_cropped(entry))
    spread = words.spread(divergence)
    title = Text.assemble(("Around it", "bold"), ("   = same in both runs   → differs first   ≠ carries it on", "dim"))
    return _section(title, *lines, *([_text(spread)] if spread else []))


def _streams(streams: list[Stream]) -> RenderableType:
    valued = any(stream.a is not None or stream.b is not None for stream in streams)
    rows = []
    for stream in streams:
        values = _pair(stream.a, stream.b) if valued else []
        rows.append([_text(stream.name), _text(stream.what), *values, _where(stream.file, stream.line)])
    return _table(rows)


def _other(lanes: str, other: Divergence) -> list[Text]:
    place, op = _where(other.file, other.line), _text(texts.op_name(other.op))
    return [_text(lanes), _text(other.kind, "red"), _text(words.when(other), "dim"), place, op]


def _aside(side: Divergence) -> RenderableType:
    """A difference that reaches no part of the training: its line, and what it does reach."""
    said = f"{words.MEANINGS[side.kind]}; it reaches {words.reaching(side)}"
    return Group(_source(side.file, side.line, _text(side.code)), _indented(_table([[_text(side.kind, "bold cyan"), _text(said)]])))


def _cause(cause: Cause, audit: Audit) -> RenderableType:
    """What is to blame and its line, then why, the proof, and what to change."""
    where = Text.assemble("  ", _entered(cause)) if cause.file else Text()
    title = _cropped(Text.assemble(_text(cause.factor, "bold red" if cause.proved else "bold yellow"), where))
    rows = [[_text(name, "dim"), _long(sentence)] for name, sentence in words.reasons(cause, audit)]
    if words.shows_elsewhere(cause, audit):
        heads = [_text("seen at", "dim"), Text()]
        rows += [[head, line] for head, line in zip(heads, _seen(cause.seen_at), strict=True)]
    if cause.patch is not None:
        rows.append([_text("patch", "dim"), _long(words.patched(cause.patch))])
    lines: list[RenderableType] = [_indented(_table(rows))] if rows else []
    if cause.patch is not None:
        lines.append(_indented(_diff(cause.patch), 4))
    return _indented(Group(title, *lines))


def _entered(cause: Cause) -> Text:
    """The line where a cause entered: its code, or at least the function."""
    inside = f"in {plain(cause.function)}" if cause.function and cause.function != "<module>" and not cause.code else ""
    return _source(cause.file, cause.line, _text(cause.code or inside, "bold" if cause.code else ""))


def _sensitive(cause: Cause, audit: Audit) -> RenderableType:
    """A factor that changes how results are rounded: no more than a remark."""
    rows = [[_text(cause.factor, "bold cyan"), _text(cause.message)]]
    rows += [[Text(), line] for line in _seen(cause.seen_at)]
    rows += [[Text(), _long(sentence, "dim")] for sentence in words.bits(cause, audit)]
    return _table(rows)


def _seen(seen: OpLine | None) -> list[Text]:
    return [] if seen is None else [_source(seen.file, seen.line, _text(seen.code)), _text(f"{texts.op_name(seen.op)} (op {seen.index})")]


def _diff(patch: Patch) -> RenderableType:
    """A patch; the sign of a line has a column of its own, so that what is folded is told from the next line."""
    lines: list[RenderableType] = []
    for line in words.diff_lines(patch, _DIFF):
        style = _DIFF_COLORS.get(line[:1], "")
        if line.startswith(("--- ", "+++ ", "@@", "\\", "...")):
            lines.append(Text(line, "dim", overflow="fold"))
        else:
            lines.append(_table([[Text(line[:1], style), Text(line[1:].expandtabs(8), style)]], gap=0))
    return Group(*lines)


def _finding(finding: Finding, others: list[Finding]) -> RenderableType:
    title = Text.assemble(_text(finding.level, _LEVELS[finding.level]), "  ", _text(finding.rule, "bold"))
    lines: list[RenderableType] = [title]
    if finding.file:
        lines.append(_indented(_source(finding.file, finding.line, _text(finding.code))))
    lines.append(_indented(_text(finding.message)))
    if finding.instead and finding.level != "note":
        lines.append(_indented(_table([[Text("instead", "dim"), _text(finding.instead)]])))
    if others:
        lines.append(_indented(_text(words.elsewhere(others), "dim")))
    return Group(*lines)


def _match(audit: Audit) -> Iterator[RenderableType]:
    """The first names that differ, with both programs side by side, then all names and how the worst of them part."""
    origins = programs.origins(audit)
    for pair in origins[:_ORIGINS]:
        title = Text.assemble((texts.plain(pair.a), "bold red"), (f" | {texts.plain(pair.b)}" if pair.b != pair.a else "", "bold red"))
        title.append(f"  {programs.relation_words(pair)}")
        lines: list[RenderableType] = [_beside(pair)] if pair.around_a and pair.around_b else []
        yield _indented(Group(title, *lines))
    if audit.names:
        heads, *rows = programs.name_rows(audit.names)
        styles = ["" if pair.agrees else "dim" if pair.follows else "bold red" for pair in audit.names]
        table = [_header(*heads), *([_text(cell, style) for cell in row] for row, style in zip(rows, styles, strict=True))]
        shown = table[: _NAMES + 1]
        more = [_text(f"and {len(table) - len(shown)} more names: --json has them all", "dim")] if len(table) > len(shown) else []
        yield _section("Names, in order of execution", _table(shown), *more)
    curves = programs.error_curves(audit, _CURVES, _BARS // 2)
    if curves:
        rows_ = [[_text(name), Text(cells, "cyan"), _text(ends, "dim")] for name, cells, ends in curves]
        yield _section("Relative error from the first occurrence to the last", *map(_cropped, _aligned(rows_)))
    if audit.unaligned:
        shown_ = audit.unaligned[:_UNALIGNED]
        rest = [f"and {len(audit.unaligned) - len(shown_)} more"] if len(audit.unaligned) > len(shown_) else []
        yield _section("Without a counterpart", *map(_item, [*shown_, *rest]))


def _beside(pair: NamePair) -> RenderableType:
    """Lines of both programs, each in its half of the width; the line of the name is marked."""
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_row(_text(texts.place(pair.file_a, pair.line_a), "cyan"), _text(texts.place(pair.file_b, pair.line_b), "cyan"))
    for k in range(max(len(pair.around_a), len(pair.around_b))):
        cells = []
        for around, line in ((pair.around_a, pair.line_a), (pair.around_b, pair.line_b)):
            number, code = around[k] if k < len(around) else (None, "")
            style = "bold" if number == line else "dim"
            cells.append(Text("" if number is None else f"{number:>4} {'→' if number == line else '│'} {texts.plain_line(code)}", style))
        grid.add_row(*cells)
    return grid


def _devices(comparison: DeviceComparison) -> RenderableType:
    """How two devices drift apart, as bars on a logarithmic scale, and which ops added most."""
    lines: list[RenderableType] = [_long(comparison.sentence)] if comparison.sentence else []
    drawn = devices.chart(comparison.curve, _BARS, comparison.first.index if comparison.first else None)
    if drawn is not None:
        widest = max(len(label) for label, _ in drawn.rows)
        bars = [_cropped(Text.assemble((f"{label:>{widest}} ", "dim"), (cells, "cyan"))) for label, cells in drawn.rows]
        marks = [_cropped(Text.assemble(" " * (widest + 1), (drawn.marks, "bold red")))] if drawn.marks else []
        lines += [Text(), _text("how far the results are apart, relative to their norm", "dim"), *bars, *marks]
        lines.append(_cropped(Text(" " * (widest + 1) + drawn.axis, "dim")))
    return _section(devices.devices_title(comparison), *lines, *_errors(comparison.most), *_unmeasured(comparison.unmeasured))


def _shadow(shadow: Shadowed) -> RenderableType:
    """By how much each op is off from what it would be in higher precision, or elsewhere."""
    said = [_long(shadow.sentence)] if shadow.sentence else []
    return _section(devices.shadow_title(shadow), *said, *_errors(shadow.most), *_unmeasured(shadow.unmeasured))


def _errors(most: list[OpError]) -> Iterator[RenderableType]:
    """The ops that added most."""
    if not most:
        return
    heads, *found = devices.error_rows(most[:_MOST])
    rows = [[Text(head, "dim", justify="right" if k > 1 else None) for k, head in enumerate(heads)]]
    rows += [[Text(one[0], "cyan"), _text(one[1]), *(Text(figure, justify="right") for figure in one[2:])] for one in found]
    yield Text()
    yield from map(_cropped, _aligned(rows))
    if any(map(devices.is_cancelled, most[:_MOST])):
        yield _text(devices.CANCELLED, "dim")


def _unmeasured(ops: dict[str, int]) -> Iterator[RenderableType]:
    if ops:
        yield Text()
        yield _text(f"not measured: {devices.unmeasured(ops)}", "dim")


def _foretold(rule: words.Foretold) -> RenderableType:
    """What one rule says of a GPU: where it does, with the code where that is one line, and how often."""
    lines: list[RenderableType] = [_text(rule.rule, "bold cyan")]
    for message, findings in rule.said:
        first, alone = findings[0], len(findings) == 1
        where = _source(first.file, first.line, _text(first.code)) if alone and first.file else Text(words.places(findings), "cyan")
        lines.append(_indented(where))
        lines.append(_indented(_text(f"{message}{words.times(findings)}"), 4))
    if rule.more:
        lines.append(_indented(_text(f"and in {texts.counted(rule.more, 'more place')}: --json has them all", "dim")))
    return Group(*lines)


def _environment(audit: Audit) -> RenderableType:
    shown, rest = audit.environment[:_FACTS], audit.environment[_FACTS:]
    rows = [_header("", *(run.id for run in audit.runs[:2]))]
    rows += [[_text(fact.name), *_pair(fact.a, fact.b)] for fact in shown]
    more = [_text(f"and {len(rest)} more: {texts.listed(fact.name for fact in rest)}")] if rest else []
    return _section(words.environment_title(audit), _table(rows), *more)


def _runs(audit: Audit) -> RenderableType:
    """How each run ended and where it is kept: one directory for all where there is one."""
    together = words.kept_together(audit)
    lines: list[RenderableType] = []
    shown, hidden = words.run_rows(audit)
    table, remarks = _aligned([_run(row) for row in shown]), [_text(row.how, "dim") for row in shown]
    columns = max(line.cell_len for line in table)
    for row, line, remark in zip(shown, table, remarks, strict=True):
        lines.append(_Beside(line, columns, remark))
        run = row.runs[0]
        if run.error and run.error not in (audit.reason or ""):
            lines.append(_indented(_text(run.error, "red")))
        if not together and run.path:
            lines.append(_indented(_folded(run.path)))
    if hidden:
        lines.append(_text(f"and {texts.counted(hidden, 'more run')} of the search: --json has them all", "dim"))
    if together:
        lines.append(Text("kept in ", "dim").append_text(_folded(together)))
    return _section(words.runs_title(audit), *lines)


def _run(row: words.Row) -> list[Text]:
    run = row.runs[0]
    return [
        _text(row.name),
        _text(words.ending(run), "" if run.exit == 0 else "red"),
        Text(f"{row.seconds} s" if row.seconds else "", justify="right"),
        Text(f"{row.ops} op{'' if row.ops == '1' else 's'}", justify="right"),
        Text(f"{row.steps} step{'' if row.steps == '1' else 's'}", justify="right"),
    ]


class _Beside:
    """A text of so many columns and a remark beside it; below it where little room is left."""

    def __init__(self, text: Text, columns: int, remark: Text) -> None:
        self.text, self.columns, self.remark = text, columns, remark

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """What rich prints."""
        if not self.remark:
            yield self.text
        elif options.max_width - self.columns - 2 < min(_REMARK, self.remark.cell_len):
            yield from (self.text, _indented(self.remark))
        else:
            grid = Table.grid(padding=(0, 2))
            grid.add_column(width=self.columns)
            grid.add_column(overflow="fold")
            grid.add_row(self.text, self.remark)
            yield grid


def _section(title: str | Text, *lines: RenderableType) -> RenderableType:
    return Group(title if isinstance(title, Text) else _text(title, "bold"), *map(_indented, lines))


def _indented(line: RenderableType, columns: int = 2) -> RenderableType:
    return Padding(line, (0, 0, 0, columns))


def _item(text: str) -> RenderableType:
    return _table([[Text("-", "dim"), _long(text)]], gap=1)


def _header(*names: str) -> list[Text]:
    return [_text(name, "dim") for name in names]


def _text(value: object, style: str = "") -> Text:
    """Any value as text that wraps at words; nothing for None."""
    return Text("" if value is None else plain(value), style)


def _long(value: str, style: str = "") -> Text:
    """What is made of many parts, each of which is short."""
    return Text(plain(value, words.LONG), style)


def _folded(path: str) -> Text:
    """A path, whole: it may have to be copied."""
    return Text(texts.path(path), overflow="fold")


def _cropped(text: Text) -> Text:
    """A line that ends where the terminal does."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _source(file: str | None, line: int | None, code: Text) -> Text:
    """`train.py:31 │ loss.backward()`, cropped."""
    text = Text(texts.place(file, line), "cyan")
    return _cropped(Text.assemble(text, (" │ ", "dim"), code) if code else text)


def _where(file: str | None, line: int | None) -> Text:
    return Text(texts.place(file, line), "cyan") if file else Text()


def _pair(a: str | None, b: str | None) -> list[Text]:
    """A value in either run; of long ones what stands around their first difference."""
    shown = texts.contrasted(a, b)
    return [Text("none", "dim") if value is None else _text(text) for value, text in zip((a, b), shown, strict=True)]


def _table(rows: list[list[Text]], gap: int = 2) -> Table:
    """Columns that wrap, and fold words, where the terminal is too narrow for them."""
    grid = Table.grid(padding=(0, gap))
    for _ in rows[0]:
        grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _aligned(rows: list[list[Text]]) -> list[Text]:
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


REPORT = Report(name="terminal", why="for a person, in ten seconds", suffix=".txt", render=render)
