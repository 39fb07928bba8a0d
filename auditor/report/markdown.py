"""The report for a chat or a pull request: the same story as in the terminal, in Markdown; the evidence and the runs are folded away.

What comes from the user stands in a fence, in code spans, or escaped: `|` ends no cell, and `<script>` is text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TextIO

from auditor import report as words
from auditor.report import Report
from auditor.report.story import story
from auditor.report.story.rows import Diff, Entry, Fact, Frame, More, Section, Sides
from auditor.report.words import devices, programs, streams
from auditor.report.words import text as texts
from auditor.report.words.text import plain
from auditor.results import Audit, Difference, Divergence, OpError

#: Most entries of a list, and most tensors of one op: together they keep the report within a screen or two.
_LIST, _TENSORS, _CARRIERS, _RUNS = 5, 4, 3, 12
#: Most lines of a patch, most characters of a sentence in a list, and most rows of the names.
_DIFF, _SAID, _NAMES = 20, 600, 12
#: Most characters of a value in a code span.
_VALUE = 120
#: What would be markup in prose: code, cells, emphasis (not within a word), links, and what begins a heading or a list.
_MARKUP = re.compile(r"[\\`*|~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])|^[\[#+=-]")
_NUMBERED = re.compile(r"^(\d+)([.)])")


def render(audit: Audit, out: TextIO) -> None:
    """Write the audit as GitHub-flavoured Markdown."""
    blocks = ["\n".join(block) for block in map(list, _blocks(audit)) if block]
    texts.write(out, "\n\n".join(blocks) + "\n")


def _blocks(audit: Audit) -> Iterator[list[str] | Iterator[str]]:
    told = story(audit)
    yield [f"**{told.label}** {text(told.headline, words.LONG)}"]
    yield [_fact(fact) for fact in told.facts]
    for section in told.sections:
        yield from _section(section)
    yield [text(line, words.LONG) for line in told.tail]
    if told.next is not None:
        command, what = told.next
        yield [f"Next: {code(command, words.LONG)} {text(what)}"]
    yield from _folded(audit)


def _section(section: Section) -> Iterator[list[str]]:
    """A title, the entries of its list, and code in fences between paragraphs."""
    lines = [f"**{text(section.title, words.LONG)}**", ""] if section.title else []
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
    return f"- {text(fact.name)}: {text(fact.text, words.LONG)}"


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
    fence = _fence("\n".join(shown))
    return [f"{fence}python", *shown, fence, ""]


def _diff(row: Diff) -> list[str]:
    """A patch, in a fence longer than any run of backticks in it."""
    lines = words.diff_lines(row.patch, _DIFF)
    fence = _fence("\n".join(lines))
    return [f"{fence}diff", *lines, fence]


def _folded(audit: Audit) -> Iterator[list[str] | Iterator[str]]:
    """The evidence, and the runs."""
    yield ["<details>"]
    # within an HTML block a backslash is a backslash
    yield [f"<summary>{html.escape(words.runs_title(audit), quote=False)}, {words.covered(audit)}</summary>"]
    divergence = audit.divergence
    if divergence is not None:
        yield _facts(divergence)
        yield _evidence(divergence)
        yield _carriers(divergence)
        yield _list("Differ before it:", [*_streams(divergence), *_files(divergence)])
    if audit.names:
        yield _names(audit)
    for comparison in audit.devices:
        yield _errors(comparison.most)
    if audit.shadow is not None:
        yield _errors(audit.shadow.most)
    title = f"{text(words.environment_title(audit))}:"
    yield _list(title, [f"{text(fact.name)}: {_either(fact.a, fact.b)}" for fact in audit.environment])
    if audit.runs:
        yield _runs(audit)
    yield ["</details>"]


def _facts(divergence: Divergence) -> Iterator[str]:
    """What is known of the op at which the runs diverge."""
    yield f"**{divergence.kind}** in {texts.op_name(divergence.op) if divergence.op in texts.NO_OPS else code(divergence.op)}"
    yield ""
    for name, fact in words.facts(divergence):
        if name not in ("op", "reaches"):
            yield f"- {name}: {text(fact, words.LONG)}"
    detail = divergence.detail
    for name, line in (("forward line", detail.forward), ("memory of", detail.allocated), ("visible in", detail.seen_at)):
        if line is not None:
            yield f"- {name}: {code(texts.place(line.file, line.line))}{f' {code(line.code)}' if line.code else ''}"
    for what, a, b in words.sides(divergence):
        yield f"- {text(what)}: {code(a)} and {code(b)}"


def _names(audit: Audit) -> Iterator[str]:
    """All names of two programs, in order of execution."""
    heads, *rows = programs.name_rows(audit.names)
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows[:_NAMES]:
        yield f"| {cell(row[0])} | {cell(row[1])} | {' | '.join(cell(part) if '|' in part else text(part) for part in row[2:])} |"
    if len(rows) > _NAMES:
        yield f"\nand {len(rows) - _NAMES} more (--json)"


def _fence(content: str) -> str:
    return "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))


def _evidence(divergence: Divergence) -> Iterator[str]:
    evidence = divergence.detail.evidence
    tensors = [*evidence.inputs, *evidence.outputs] if evidence else []
    if not evidence or not tensors:
        return
    runs = " / ".join(cell(run) for run in evidence.runs or divergence.runs)
    yield f"| {words.shown_at(divergence)} | tensor | elements | largest | relative | ULP | first: {runs} |"
    yield "|---|---|---|---|---|---|---|"
    shown = words.most_telling(tensors, _TENSORS)
    yield from map(_tensor, shown)
    if len(shown) < len(tensors):
        yield f"| | {words.and_more(tensors, shown)} | | | | | |"


def _tensor(difference: Difference) -> str:
    first = f"{difference.first}: {cell(difference.a)} / {cell(difference.b)}" if difference.first is not None else ""
    cells = (
        text(difference.slot),
        cell(words.tensor(difference)),
        words.elements(difference),
        words.number(difference.absolute),
        words.number(difference.relative),
        words.ulps(difference.ulp),
        "; ".join(filter(None, [first, *map(text, words.remarks(difference))])),
    )
    return f"| {' | '.join(cells)} |"


def _carriers(divergence: Divergence) -> Iterator[str]:
    spread = words.spread(divergence)
    if divergence.detail.carriers:
        yield f"Propagates to{f' ({spread})' if spread else ''}:"
        known = None
        for line in divergence.detail.carriers[:_CARRIERS]:
            where = texts.place(line.file, line.line)
            shown = f": {code(line.code)}" if line.code and where != known else ""
            yield f"- {code(where)} {_op(line.op)}{shown}"
            known = where


def _streams(divergence: Divergence) -> Iterator[str]:
    for stream in divergence.detail.streams:
        values = f", {_either(stream.a, stream.b)}" if stream.a is not None or stream.b is not None else ""
        where = f" at {code(texts.place(stream.file, stream.line))}" if stream.file else ""
        yield f"{code(stream.name)}: {text(streams.of_stream(stream))}{where}{values}"


def _files(divergence: Divergence) -> Iterator[str]:
    for file in divergence.detail.files:
        where = f" at {code(texts.place(file.file, file.line))}" if file.file else ""
        yield f"file {code(texts.path(file.path))} ({text(file.op)}){where}: {text(streams.of_file(file))}"


def _errors(most: list[OpError]) -> Iterator[str]:
    """The ops that added most."""
    if not most:
        return
    heads, *rows = devices.error_rows(most[:_LIST])
    yield from ("", f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(heads) - 2)}")
    for where, op, *figures in rows:
        yield f"| {cell(where)} | {cell(op)} | {' | '.join(figures)} |"
    if any(map(devices.is_cancelled, most[:_LIST])):
        yield from ("", text(devices.CANCELLED))


def _runs(audit: Audit) -> Iterator[str]:
    together = words.kept_together(audit)
    shown, hidden = words.run_rows(audit, _RUNS)
    made, where = any(row.how for row in shown), not together
    yield f"| run | ended | seconds | ops | steps |{' with |' if made else ''}{' kept in |' if where else ''}"
    yield f"|---|---|---|---|---|{'---|' if made else ''}{'---|' if where else ''}"
    for row in shown:
        run = row.runs[0]
        ended = f"{words.ending(run)}: {cell(run.error)}" if run.error else words.ending(run)
        how = f" {text(row.how)} |" if made else ""
        kept = f" {cell(texts.path(run.path))} |" if where else ""
        yield f"| {text(row.name)} | {ended} | {row.seconds} | {row.ops} | {row.steps} |{how}{kept}"
    if hidden:
        yield from ("", f"and {texts.counted(hidden, 'more run')} of the search: --json has them all")
    if together:
        yield from ("", f"kept in {code(together, most=len(together))}")


def _op(op: str) -> str:
    return texts.op_name(op) if op in texts.NO_OPS else code(op)


def _list(title: str, entries: list[str], most: int = _LIST) -> list[str]:
    """A title and at most so many entries; none without entries."""
    more = [f"- and {len(entries) - most} more"] if len(entries) > most else []
    return [title, *(f"- {entry}" for entry in entries[:most]), *more] if entries else []


def _either(a: str | None, b: str | None) -> str:
    shown = texts.contrasted(a, b)
    return " and ".join("none" if value is None else code(text) for value, text in zip((a, b), shown, strict=True))


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


REPORT = Report(name="markdown", why="for a chat or a pull request: short, and foldable", suffix=".md", render=render)
