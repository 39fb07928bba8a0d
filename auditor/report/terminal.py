"""The report that is printed when an audit ends: what a person understands in ten seconds, then what explains it.

All text is `rich.text.Text`, never markup: `[red]` in somebody's source is those five characters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from auditor import report as words
from auditor.report import Report, plain
from auditor.results import Audit, Cause, Difference, Divergence, Evidence, Finding, OpLine, RunOutcome

#: Columns where there is no terminal, and the most that are used on one: longer lines are hard to read.
_WIDTH, _WIDEST = 100, 160
#: Most facts of the environment, and most tensors of one op, that are listed; the others are counted.
_FACTS = 12
_TENSORS = 6
#: Most columns of a path and of an op where many are listed; the divergence itself is always shown in full.
_PLACE, _OP = 30, 40

_LABELS = {
    "diverged": "bold white on red",
    "no-divergence-seen": "bold black on green",
    "inconclusive": "bold black on yellow",
}
_LEVELS = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
_SAME, _DIFFERS = "green", "bold red"


def render(audit: Audit, out: TextIO) -> None:
    """Print the report, in colour and as wide as the terminal where `out` is one."""
    console = _console(out)
    with console.capture() as capture:
        for k, section in enumerate(_sections(audit)):
            if k:
                console.print()
            console.print(section)
    words.write(out, "".join(line.rstrip(" ") + "\n" for line in capture.get().splitlines()))


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
    if divergence is not None:
        if divergence.code:
            yield _indented(_source(divergence.file, divergence.line, _text(divergence.code, "bold")))
        yield _indented(_facts(divergence))
    if audit.causes:
        yield _section("Causes", *(_cause(cause) for cause in audit.causes))
    if divergence is not None:
        yield from _explained(divergence)
    if audit.others:
        yield _section("First difference of other lanes", _others(audit.others))
    if audit.findings:
        yield _section("Findings", *(_finding(finding) for finding in audit.findings))
    if audit.environment and not words.is_diff(audit):
        yield _environment(audit)
    yield _section("Coverage", _text(words.covered(audit)), *(_item(what) for what in words.not_covered(audit)))
    if audit.runs:
        yield _runs(audit)
    if audit.notes:
        yield _section("Notes", *(_item(note) for note in audit.notes))


def _headline(audit: Audit) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(_text(words.LABELS[audit.verdict], _LABELS[audit.verdict]), _text(words.headline(audit), "bold"))
    caveat = words.caveat(audit)
    return Group(grid, Text(), _indented(_text(caveat))) if caveat else grid


def _facts(divergence: Divergence) -> RenderableType:
    """What is known of the divergent op, one fact a line."""
    detail = divergence.detail
    grid = Table.grid(padding=(0, 2))
    meaning = _text(words.MEANINGS[divergence.kind])
    if divergence.sentence:
        meaning = meaning.append("\n").append_text(_text(divergence.sentence, "dim"))
    grid.add_row(_text(divergence.kind, "bold red"), meaning)
    for name, fact in words.facts(divergence):
        grid.add_row(_text(name, "dim"), _text(fact))
    if detail.forward is not None:
        grid.add_row(_text("forward", "dim"), _source(detail.forward.file, detail.forward.line, _text(detail.forward.code)))
    if detail.seen_at is not None:
        seen = detail.seen_at
        grid.add_row(_text("seen at", "dim"), _source(seen.file, seen.line, _text(seen.code)))
        grid.add_row(Text(), _text(f"{words.op_name(seen.op)}, op {seen.index}", "dim"))
    return grid


def _explained(divergence: Divergence) -> Iterator[RenderableType]:
    """What is not the same about the two runs there, from the values of the op outwards."""
    detail = divergence.detail
    sides = words.sides(divergence)
    if sides:
        yield _section("The two runs here", _table([[_text(word, "dim") for word in ("", *divergence.runs)], *map(_row, sides)]))
    if detail.evidence is not None and (detail.evidence.inputs or detail.evidence.outputs):
        yield _evidence(detail.evidence, divergence)
    yield _strip(divergence)
    if detail.streams:
        values = any(stream.a is not None or stream.b is not None for stream in detail.streams)
        yield _section(
            "Random streams, seeds and settings that differ before it",
            _table(
                [
                    [_text(stream.name), _text(stream.what), *(_pair(stream.a, stream.b) if values else ()), _where(stream.file, stream.line)]
                    for stream in detail.streams
                ]
            ),
        )
    if detail.files:
        yield _section("Files that differ before it", _table([[_text(f.path), _text(f.op, "dim"), _text(f.what)] for f in detail.files]))


def _evidence(evidence: Evidence, divergence: Divergence) -> RenderableType:
    """What went in and what came out: one line a tensor, and below it the first element that differs."""
    rows = [[_text(word, "dim") for word in ("", "", "elements", "largest", "relative", "ULP")]]
    below: dict[int, list[Text]] = {}
    for tensors in (evidence.inputs, evidence.outputs):
        listed = sorted(sorted(tensors, key=lambda d: not d.differs)[:_TENSORS], key=tensors.index)
        for difference in listed:
            rows.append(_measured(difference))
            below[len(rows) - 1] = _first_element(difference)
        if len(listed) < len(tensors):
            hidden = sum(d.differs for d in tensors) - sum(d.differs for d in listed)
            also = f", {hidden} of which differ" if hidden else ""
            below[len(rows) - 1].append(_text(f"and {len(tensors) - len(listed)} more{also}", "dim"))
    lines: list[RenderableType] = []
    if evidence.sentence and evidence.sentence != divergence.sentence:
        lines.append(_text(evidence.sentence))
    for k, row in enumerate(_aligned(rows)):
        lines += [row, *(_indented(line, 6) for line in below.get(k, ()))]
    return _section(f"What went in and what came out, {' against '.join(evidence.runs or divergence.runs)}", *lines)


def _measured(difference: Difference) -> list[Text]:
    differs = difference.differs
    return [
        _text(difference.slot, "bold" if differs else "dim"),
        _text(words.tensor(difference), "" if differs else "dim"),
        _text(words.elements(difference), _DIFFERS if differs else _SAME),
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
    """The ops just before the divergence, the divergence itself, and the first that carry it on."""
    detail = divergence.detail
    origin = OpLine(**divergence.model_dump(include={"file", "line", "code", "index", "op", "phase", "step"}))
    marked = [(line, Text("≠", "yellow") if line.differs else Text("=", _SAME)) for line in detail.before]
    marked += [(line, Text("≠", "yellow")) for line in (*([detail.seen_at] if detail.seen_at else ()), *detail.carriers)]
    # a draw or a seed has the number of the op that follows it
    at = next((k for k, (line, _) in enumerate(marked) if line.index >= origin.index), len(marked))
    marked.insert(at, (origin, Text("→", _DIFFERS)))
    table = _grid()
    known: tuple[object, ...] = (None,) * 3
    for line, mark in marked:
        style = "bold" if line is origin else ""
        now = (line.file, line.line, when := words.when(line))
        here = now[:2] != known[:2]
        table.add_row(
            mark,
            Text(str(line.index), "dim", justify="right"),
            _where(line.file, line.line) if here else Text(),
            _text(when if now[2] != known[2] else "", "dim"),
            _short(words.op_name(line.op), _OP, style),
            _code(line.code if here else line.note, style),
        )
        known = now
    spread = words.spread(divergence)
    legend = _text("= same in both runs   → first difference   ≠ carries it on", "dim")
    return _section("Around it", table, *([_text(spread)] if spread else []), legend)


def _others(others: list[Divergence]) -> RenderableType:
    return _table(
        [
            [_text(d.lane), _text(d.kind, "red"), _text(words.when(d), "dim"), _where(d.file, d.line), _short(words.op_name(d.op), _OP)]
            for d in others
        ]
    )


def _cause(cause: Cause) -> RenderableType:
    proof = f"proved by {words.listed(cause.proof)}" if cause.proved else "not proved"
    lines: list[RenderableType] = [
        _text(cause.factor, "bold red" if cause.proved else "bold yellow").append_text(
            _text(f"  {words.place(cause.file, cause.line)}" if cause.file else "", "cyan")
        ),
        _indented(_text(cause.message)),
    ]
    if cause.fix:
        lines.append(_indented(Text.assemble(("fix: ", "bold"), _text(cause.fix))))
    return Group(*lines, _indented(_text(proof, "dim")))


def _finding(finding: Finding) -> RenderableType:
    place = f"  {words.place(finding.file, finding.line)}" if finding.file else ""
    title = Text.assemble(_text(finding.level, _LEVELS[finding.level]), "  ", _text(finding.rule, "bold"), (place, "cyan"))
    return Group(title, _indented(_text(finding.message)))


def _environment(audit: Audit) -> RenderableType:
    a, b = (run.id for run in audit.runs[:2]) if len(audit.runs) > 1 else ("first", "second")
    shown, rest = audit.environment[:_FACTS], audit.environment[_FACTS:]
    rows = [[_text(word, "dim") for word in ("", a, b)], *([_text(fact.name), *_pair(fact.a, fact.b)] for fact in shown)]
    more = [_text(f"and {len(rest)} more: {words.listed(fact.name for fact in rest)}")] if rest else []
    return _section(f"Their environments differ in {words.counted(len(audit.environment), 'fact')}", _table(rows), *more)


def _runs(audit: Audit) -> RenderableType:
    """How each run ended and where it is kept: one directory for all where there is one."""
    together = words.kept_together(audit)
    lines: list[RenderableType] = []
    rows = _aligned([_run(run) for run in audit.runs])
    for run, row in zip(audit.runs, rows, strict=True):
        lines.append(row)
        if run.error:
            lines.append(_indented(_text(run.error, "red")))
        if not together and run.path:
            lines.append(_indented(_folded(run.path)))
    if together:
        lines.append(Text("kept in ", "dim").append_text(_folded(together)))
    return _section(f"Runs of {words.command(audit)}" if audit.script else "Runs", *lines)


def _run(run: RunOutcome) -> list[Text]:
    seconds = "" if run.seconds is None else f"{run.seconds:.1f} s"
    how = [run.device] * (run.device != "cpu") + [f"pinned {name}" for name in run.pinned] + [f"varied {name}" for name in run.varied]
    return [
        _text(run.id),
        _text(words.ending(run), "" if run.exit == 0 else "red"),
        Text(seconds, justify="right"),
        Text(words.counted(run.ops, "op"), justify="right"),
        Text(words.counted(run.steps, "step"), justify="right"),
        _text(", ".join(how), "dim"),
    ]


def _section(title: str, *lines: RenderableType) -> RenderableType:
    return Group(_text(title, "bold"), *map(_indented, lines))


def _indented(line: RenderableType, columns: int = 2) -> RenderableType:
    return Padding(line, (0, 0, 0, columns))


def _item(text: str) -> RenderableType:
    grid = _grid(1)
    grid.add_row(Text("-", "dim"), _text(text))
    return grid


def _text(value: object, style: str = "") -> Text:
    """Any value as one line of text that wraps at words."""
    return Text("" if value is None else plain(value), style)


def _folded(path: str) -> Text:
    """A path that may have to be copied: never shortened."""
    return Text(plain(path), overflow="fold")


def _code(code: str | None, style: str = "") -> Text:
    """A line of code, cropped where the terminal ends."""
    return Text(plain(code or ""), style, no_wrap=True, overflow="ellipsis")


def _source(file: str | None, line: int | None, code: Text) -> Text:
    """`train.py:31 │ loss.backward()`, cropped where the terminal ends."""
    text = Text.assemble((words.place(file, line), "cyan"), (" │ ", "dim"), code)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _short(name: str, most: int, style: str = "") -> Text:
    """A name that keeps its end: the last part of a path or an op tells most."""
    return Text(name if len(name) <= most else f"…{name[1 - most:]}", style)


def _where(file: str | None, line: int | None) -> Text:
    return _short(words.place(file, line), _PLACE, "cyan") if file else Text()


def _pair(a: str | None, b: str | None) -> list[Text]:
    return [Text("none", "dim") if value is None else _text(value) for value in (a, b)]


def _row(values: Sequence[str]) -> list[Text]:
    return [_text(value) for value in values]


def _grid(padding: int = 2) -> Table:
    return Table.grid(padding=(0, padding))


def _table(rows: list[list[Text]]) -> Table:
    grid = _grid()
    for row in rows:
        grid.add_row(*row)
    return grid


def _aligned(rows: list[list[Text]]) -> list[Text]:
    """One text a row, its cells padded to the width of their columns; cropped where the terminal ends."""
    widths = [max(cell_len(row[k].plain) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        line = Text(no_wrap=True, overflow="ellipsis")
        for cell, width in zip(row, widths, strict=True):
            gap = " " * (width - cell_len(cell.plain))
            line.append_text(Text.assemble(gap, cell) if cell.justify == "right" else Text.assemble(cell, gap)).append("  " if width else "")
        lines.append(line)
    return lines


REPORT = Report(name="terminal", why="for a person, in ten seconds", suffix=".txt", render=render)
