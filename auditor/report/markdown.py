"""The report for a chat or a pull request: the verdict, the line, the evidence; the runs are folded away.

What comes from the user stands in a fence, in code spans, or escaped: `|` ends no cell, and `<script>` is text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TextIO

from auditor import report as words
from auditor.report import Report
from auditor.report.words import devices, programs
from auditor.report.words import text as texts
from auditor.report.words.text import plain
from auditor.results import Audit, Cause, DeviceComparison, Difference, Divergence, Finding, OpError, OpLine

#: Most entries of a list, and of the tensors of one op: together they keep the report within a screen or two.
_LIST, _TENSORS, _CARRIERS, _RUNS, _DIFF = 5, 4, 3, 12, 20
#: Most rules of the forecast, which is one entry a rule, and most messages of one.
_FORECAST, _MESSAGES = 8, 2
#: Columns and rows of the bars that show how devices drift apart.
_BARS, _BAR_ROWS = 60, 4
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
    divergence = audit.divergence
    environment = _list(
        f"{text(words.environment_title(audit))}:",
        [f"{text(fact.name)}: {_either(fact.a, fact.b)}" for fact in audit.environment],
    )
    if words.is_diff(audit):
        yield environment
    yield [f"**{words.label(audit)}** {text(words.headline(audit), words.LONG)}"]
    caveat = words.caveat(audit)
    if caveat:
        yield [text(caveat, words.LONG)]
    if programs.is_match(audit):
        yield from _match(audit)
    explaining = words.explaining(audit)
    if explaining is not None:
        yield [f"- {_finding(explaining, [])}"]
    leading = words.leading(audit)
    for cause in leading[:_LIST]:
        yield _cause(cause, audit)
        yield _patch(cause)
    if len(leading) > _LIST:
        yield [f"And because of {text(words.names(leading[_LIST:]))}."]
    unexplained = words.without_cause(audit)
    yield [f"- {name}: {text(sentence, words.LONG)}" for name, sentence in unexplained]
    if divergence is not None:
        if leading or unexplained:
            yield ["The first difference:"]
        yield _source(divergence)
        yield _kind(divergence)
    if divergence is not None:
        yield _evidence(divergence)
        yield _carriers(divergence)
        yield _list("Also not the same before it:", [*_streams(divergence), *_files(divergence)])
    yield _list("First difference of other lanes:", [_other(lanes, other) for lanes, other in words.others(audit)])
    yield _list(f"{words.SIDE}:", [_aside(side) for side in audit.side])
    yield _list(f"{words.SENSITIVE}:", [_sensitive(cause, audit) for cause in words.sensitive(audit)])
    for comparison in audit.devices:
        yield _devices(comparison)
    if audit.shadow is not None:
        title = f"**{text(devices.shadow_title(audit.shadow))}**"
        yield [f"{title}. {text(audit.shadow.sentence, words.LONG)}", *_errors(audit.shadow.most)]
    yield _list("Findings:", [_finding(finding, others) for finding, others in words.grouped(words.seen(audit))])
    yield _list(f"{words.FORECAST} ({words.FORETOLD}):", [_foretold(rule) for rule in words.forecast(audit)], _FORECAST)
    if not words.is_diff(audit):
        yield environment
    yield _list("Not covered:", [text(what, words.LONG) for what in words.not_covered(audit)])
    yield _list("Notes:", [text(note) for note in audit.notes])
    yield _runs(audit)


def _source(divergence: Divergence) -> Iterator[str]:
    """The line of code, in a fence longer than any run of backticks in it."""
    if divergence.code:
        line = plain(divergence.code)
        fence = _fence(line)
        yield from (f"{fence}python", line, fence)


def _fence(content: str) -> str:
    return "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))


def _kind(divergence: Divergence) -> Iterator[str]:
    """The kind, what it means, and what is known of the op: a paragraph, and a list of what is not the same."""
    detail = divergence.detail
    sentence = f"; {text(divergence.sentence)}" if divergence.sentence else ""
    yield f"**{divergence.kind}**: {words.MEANINGS[divergence.kind]}{sentence}."
    facts = dict(words.facts(divergence))
    inside = f", in {text(facts['in'])}" if "in" in facts else ""
    yield f"Op {divergence.index}: {_op(divergence.op)}{inside}."
    if "how often" in facts:
        yield f"{text(facts['how often'])}."
    for name, line in (("Forward line", detail.forward), ("Memory of", detail.allocated), ("Seen at", detail.seen_at)):
        if line is not None:
            yield f"{name}: {code(texts.place(line.file, line.line))}{f' {code(line.code)}' if line.code else ''}"
    for what, a, b in words.sides(divergence):
        yield f"- {text(what)}: {code(a)} against {code(b)}"


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
        yield f"Carried on by{f' ({spread})' if spread else ''}:"
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
        yield f"{code(stream.name)}: {text(stream.what)}{where}{values}"


def _files(divergence: Divergence) -> Iterator[str]:
    for file in divergence.detail.files:
        where = f" at {code(texts.place(file.file, file.line))}" if file.file else ""
        yield f"file {code(texts.path(file.path))} ({text(file.op)}){where}: {text(file.what)}"


def _cause(cause: Cause, audit: Audit) -> Iterator[str]:
    """What is to blame and its line, then why, the proof, and what to change."""
    where = f"{' enters' if cause.proved else ''} at {code(texts.place(cause.file, cause.line))}" if cause.file else ""
    line = f": {code(cause.code)}" if cause.code else f" in {code(cause.function)}" if where and cause.function else ""
    yield f"**{text(cause.factor)}**{where}{line}"
    for name, sentence in words.reasons(cause, audit):
        yield f"- {name}: {text(sentence, words.LONG)}"
    if cause.seen_at is not None and words.shows_elsewhere(cause, audit):
        yield f"- seen at: {_seen(cause.seen_at)}"


def _patch(cause: Cause) -> Iterator[str]:
    """The diff, in a fence longer than any run of backticks in it."""
    if cause.patch is not None:
        lines = words.diff_lines(cause.patch, _DIFF)
        fence = _fence("\n".join(lines))
        yield from (f"Patch: {text(words.patched(cause.patch), words.LONG)}.", "", f"{fence}diff", *lines, fence)


def _sensitive(cause: Cause, audit: Audit) -> str:
    seen = [f"first at {_seen(cause.seen_at)}"] if cause.seen_at else []
    said = [text(sentence, words.LONG) for sentence in words.bits(cause, audit)]
    return f"**{text(cause.factor)}**: {'; '.join([text(cause.message), *seen, *said])}"


def _aside(side: Divergence) -> str:
    line = f": {code(side.code)}" if side.code else ""
    said = f"{words.MEANINGS[side.kind]}; it reaches {words.reaching(side)}"
    return f"**{side.kind}** at {code(texts.place(side.file, side.line))}{line}; {said}"


def _seen(seen: OpLine) -> str:
    return f"{code(texts.place(seen.file, seen.line))} {_op(seen.op)} (op {seen.index})"


def _match(audit: Audit) -> Iterator[list[str]]:
    """The first names that differ with the code of both programs, then all that differ, and the rest folded away."""
    for pair in programs.origins(audit)[:_LIST]:
        names = code(pair.a) if pair.a == pair.b else f"{code(pair.a)} and {code(pair.b)}"
        at = f" at {text(programs.pair_place(pair))}" if programs.pair_place(pair) else ""
        yield [f"**{names}**{at}: {text(programs.relation_words(pair), words.LONG)}"]
        for side, around, line in (("a", pair.around_a, pair.line_a), ("b", pair.around_b, pair.line_b)):
            if around:
                shown = [f"{number:>4} {'>' if number == line else ' '} {texts.plain_line(one)}" for number, one in around]
                fence = _fence("\n".join(shown))
                yield [f"{text(texts.place(getattr(pair, f'file_{side}'), line))}", "", f"{fence}python", *shown, fence]
    if audit.names:
        heads, *rows = programs.name_rows(audit.names)
        table = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        table += [
            f"| {cell(row[0])} | {cell(row[1])} | {' | '.join(cell(part) if '|' in part else text(part) for part in row[2:])} |"
            for row in rows
        ]
        yield ["<details>", f"<summary>{texts.counted(len(audit.names), 'name')}</summary>", "", *table, "", "</details>"]
    yield _list("Without a counterpart:", [text(one) for one in audit.unaligned])


def _devices(comparison: DeviceComparison) -> Iterator[str]:
    """How two devices drift apart, as bars on a logarithmic scale, and which ops added most."""
    yield f"**{text(devices.devices_title(comparison))}**. {text(comparison.sentence, words.LONG)}"
    drawn = devices.chart(comparison.curve, _BARS, comparison.first.index if comparison.first else None, _BAR_ROWS)
    if drawn is not None:
        widest = max(len(label) for label, _ in drawn.rows)
        yield from ("", "```")
        yield from (f"{label:>{widest}} {cells}".rstrip() for label, cells in drawn.rows)
        below = [f"{'':{widest}} {line}" for line in (drawn.marks, drawn.axis) if line]
        yield from (*below, "```")
    yield from _errors(comparison.most)


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


def _other(lanes: str, other: Divergence) -> str:
    return f"{text(lanes)}: {other.kind} at {code(texts.place(other.file, other.line))} {_op(other.op)}"


def _finding(finding: Finding, others: list[Finding]) -> str:
    where = f" {code(texts.place(finding.file, finding.line))}" if finding.file else ""
    more = f" ({text(words.elsewhere(others))})" if others else ""
    return f"{finding.level} **{text(finding.rule)}**{where}: {text(finding.message)}{more}"


def _foretold(rule: words.Foretold) -> str:
    """What one rule says of a GPU: where, and of the messages those that hold most often."""
    said = [f"{words.places(findings, code)}: {text(message)}{words.times(findings)}" for message, findings in rule.said[:_MESSAGES]]
    rest = rule.more + sum(len(findings) for _, findings in rule.said[_MESSAGES:])
    more = [f"and in {texts.counted(rest, 'more place')}"] if rest else []
    return f"**{text(rule.rule)}** {'; '.join([*said, *more])}"


def _runs(audit: Audit) -> Iterator[str]:
    together = words.kept_together(audit)
    yield "<details>"
    # within an HTML block a backslash is a backslash
    yield f"<summary>{html.escape(words.runs_title(audit), quote=False)}, {words.covered(audit)}</summary>"
    yield ""
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
    yield from ("", "</details>")


def _op(op: str) -> str:
    return texts.op_name(op) if op == "external" else code(op)


def _list(title: str, entries: list[str], most: int = _LIST) -> list[str]:
    """A title and at most so many entries; none without entries."""
    more = [f"- and {len(entries) - most} more"] if len(entries) > most else []
    return [title, *(f"- {entry}" for entry in entries[:most]), *more] if entries else []


def _either(a: str | None, b: str | None) -> str:
    shown = texts.contrasted(a, b)
    return " against ".join("none" if value is None else code(text) for value, text in zip((a, b), shown, strict=True))


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
