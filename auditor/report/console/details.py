"""What the terminal report adds under --verbose: the evidence, the ops around the divergence, each proof by its runs, and all runs."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from auditor import report as words
from auditor.report.console import shapes
from auditor.report.words import arithmetic, devices, programs, streams
from auditor.report.words import text as texts
from auditor.report.words.reasons import sentence_of, text_of
from auditor.report.words.text import plain
from auditor.results import (
    Audit,
    Cause,
    DeviceComparison,
    Difference,
    Divergence,
    Evidence,
    OpError,
    OpLine,
    Shadowed,
    Stream,
)

#: Most facts of the environment, and most tensors of one op, that are listed; the others are counted.
_FACTS = 40
_TENSORS = 6
#: Most names in the table, without a counterpart, and as curves.
_NAMES, _UNALIGNED, _CURVES = 40, 12, 6
#: Most ops that are listed with their errors.
_MOST = 6
#: Columns of the bars that show how devices drift apart.
_BARS = 72
#: How an op is marked in the strip, and in which colour.
_SAME, _FIRST, _CARRIES = ("=", "green"), ("→", "bold red"), ("≠", "yellow")


def details(audit: Audit) -> Iterator[RenderableType]:
    """All that explains the first block, section by section."""
    divergence = audit.divergence
    if programs.is_match(audit):
        yield from _match(audit)
    proofs = [_cause(cause, audit) for cause in words.leading(audit)]
    if proofs:
        yield shapes.section("Causes and their runs", *proofs)
    if divergence is not None:
        yield shapes.section("First divergent op", _facts(divergence))
        yield from _explained(divergence)
    rounding = words.sensitive(audit)
    if rounding:
        yield shapes.section(words.SENSITIVE, *(_sensitive(cause, audit) for cause in rounding))
    yield from (_devices(comparison) for comparison in audit.devices)
    if audit.shadow is not None:
        yield _shadow(audit.shadow)
    if audit.environment:
        yield _environment(audit)
    caveat = words.caveat(audit)
    if caveat:
        yield shapes.section("Scope", shapes.long(caveat))
    missed = [shapes.item(what) for what in words.not_covered(audit)]
    if missed or not programs.is_match(audit):
        yield shapes.section("Coverage", shapes.text(words.covered(audit)), *missed)
    if audit.runs:
        yield _runs(audit)


def _facts(divergence: Divergence) -> RenderableType:
    """What is known of the divergent op, one fact a line."""
    forward, seen = divergence.detail.forward, divergence.detail.seen_at
    meaning = shapes.text(words.MEANINGS[divergence.kind])
    if divergence.reasons:
        meaning.append("\n").append_text(shapes.text(sentence_of(divergence.reasons)))
    rows = [[shapes.text(divergence.kind, "bold red"), meaning]]
    rows += [[shapes.text(name, "dim"), shapes.text(fact)] for name, fact in words.facts(divergence)]
    for name, line in (("forward", forward), ("memory of", divergence.detail.allocated)):
        if line is not None:
            rows.append([shapes.text(name, "dim"), shapes.source(line.file, line.line, shapes.text(line.code))])
    if seen is not None:
        rows.append([shapes.text("seen at", "dim"), shapes.source(seen.file, seen.line, shapes.text(seen.code))])
        rows.append([Text(), shapes.text(f"{texts.op_name(seen.op)} (op {seen.index})")])
    return shapes.table(rows)


def _explained(divergence: Divergence) -> Iterator[RenderableType]:
    """What is not the same about the two runs, from the divergent op outwards."""
    detail = divergence.detail
    sides = words.sides(divergence)
    if sides:
        rows = [shapes.header("", *divergence.runs), *([shapes.text(value) for value in side] for side in sides)]
        yield shapes.section(f"The two runs at {words.shown_at(divergence)}", shapes.table(rows))
    if detail.evidence is not None and (detail.evidence.inputs or detail.evidence.outputs):
        yield _evidence(detail.evidence, divergence)
    if detail.before or detail.seen_at or detail.carriers:
        yield _strip(divergence)
    if detail.streams:
        yield shapes.section("Random streams, seeds and settings that differ before it", _streams(detail.streams))
    if detail.files:
        files = [
            [shapes.folded(file.path), shapes.text(file.op, "dim"), shapes.text(streams.of_file(file)), shapes.where(file.file, file.line)]
            for file in detail.files
        ]
        yield shapes.section("Files that differ before it", shapes.table(files))


def _evidence(evidence: Evidence, divergence: Divergence) -> RenderableType:
    """What went in and what came out: one line a tensor, and below it the first element that differs."""
    rows = [shapes.header("", "", "elements", "largest", "relative", "ULP")]
    below: dict[int, list[Text]] = {}
    for tensors in (evidence.inputs, evidence.outputs):
        shown = words.most_telling(tensors, _TENSORS)
        for difference in shown:
            rows.append(_measured(difference))
            below[len(rows) - 1] = _first_element(difference)
        if len(shown) < len(tensors):
            below[len(rows) - 1].append(shapes.text(words.and_more(tensors, shown), "dim"))
    op, runs = words.shown_at(divergence), " and ".join(evidence.runs or divergence.runs)
    lines: list[RenderableType] = []
    if evidence.reasons and evidence.reasons != divergence.reasons:
        lines.append(shapes.text(sentence_of(evidence.reasons)))
    for k, row in enumerate(shapes.aligned(rows)):
        lines += [row, *(shapes.indented(line, 6) for line in below.get(k, ()))]
    title = f"Inputs and outputs of {op}" if evidence.inputs else f"Outputs of {op}"
    return shapes.section(f"{title}: {runs}", *lines)


def _measured(difference: Difference) -> list[Text]:
    differs = difference.differs
    return [
        shapes.text(difference.slot, "bold" if differs else "dim"),
        shapes.text(words.tensor(difference), "" if differs else "dim"),
        shapes.text(words.elements(difference), "bold red" if differs else "green"),
        shapes.text(words.number(difference.absolute)),
        shapes.text(words.number(difference.relative)),
        shapes.text(words.ulps(difference.ulp)),
    ]


def _first_element(difference: Difference) -> list[Text]:
    lines = []
    if difference.first is not None:
        lines.append(shapes.text(f"first at {difference.first}: {difference.a} | {difference.b}"))
    return lines + [shapes.text(remark, "yellow") for remark in words.remarks(difference)]


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
            lines.append(shapes.source(line.file, line.line, shapes.text(line.code)))
        entry = Text.assemble("  ", (mark, color), f" {line.index:>{digits}}  ")
        entry.append(texts.op_name(line.op), "bold" if line is origin else "")
        remarks = [words.when(line) if words.when(line) != moment else "", plain(text_of(line.note))]
        entry.append("".join(f"  {remark}" for remark in remarks if remark), "dim")
        moment = words.when(line)
        lines.append(shapes.cropped(entry))
    spread = words.spread(divergence)
    title = Text.assemble(("Ops around the divergence", "bold"), ("   = same in both runs   → differs first   ≠ propagates", "dim"))
    return shapes.section(title, *lines, *([shapes.text(spread)] if spread else []))


def _streams(found: list[Stream]) -> RenderableType:
    valued = any(stream.a is not None or stream.b is not None for stream in found)
    rows = []
    for stream in found:
        values = shapes.pair(stream.a, stream.b) if valued else []
        rows.append([shapes.text(stream.name), shapes.text(streams.of_stream(stream)), *values, shapes.where(stream.file, stream.line)])
    return shapes.table(rows)


def _other(lanes: str, other: Divergence) -> list[Text]:
    place, op = shapes.where(other.file, other.line), shapes.text(texts.op_name(other.op))
    return [shapes.text(lanes), shapes.text(other.kind, "red"), shapes.text(words.when(other), "dim"), place, op]


def _cause(cause: Cause, audit: Audit) -> RenderableType:
    """What is to blame and its line, then why, the proof, and what to change."""
    where = Text.assemble("  ", _entered(cause)) if cause.file else Text()
    title = shapes.cropped(Text.assemble(shapes.text(cause.factor, "bold red" if cause.proved else "bold yellow"), where))
    rows = [[shapes.text(name, "dim"), shapes.long(sentence)] for name, sentence in words.reasons(cause, audit)]
    if words.shows_elsewhere(cause, audit):
        heads = [shapes.text("seen at", "dim"), Text()]
        rows += [[head, line] for head, line in zip(heads, _seen(cause.seen_at), strict=True)]
    if cause.patch is not None:
        rows.append([shapes.text("patch", "dim"), shapes.long(words.patched(cause.patch, named=True))])
    lines: list[RenderableType] = [shapes.indented(shapes.table(rows))] if rows else []
    return shapes.indented(Group(title, *lines))


def _entered(cause: Cause) -> Text:
    """The line where a cause entered: its code, or at least the function."""
    inside = f"in {plain(cause.function)}" if cause.function and cause.function != "<module>" and not cause.code else ""
    return shapes.source(cause.file, cause.line, shapes.text(cause.code or inside, "bold" if cause.code else ""))


def _sensitive(cause: Cause, audit: Audit) -> RenderableType:
    """A factor that changes how results are rounded: no more than a remark."""
    rows = [[shapes.text(cause.factor, "bold cyan"), shapes.text(sentence_of(cause.reasons))]]
    rows += [[Text(), line] for line in _seen(cause.seen_at)]
    rows += [[Text(), shapes.long(sentence, "dim")] for sentence in words.bits(cause, audit)]
    return shapes.table(rows)


def _seen(seen: OpLine | None) -> list[Text]:
    if seen is None:
        return []
    return [shapes.source(seen.file, seen.line, shapes.text(seen.code)), shapes.text(f"{texts.op_name(seen.op)} (op {seen.index})")]


def _match(audit: Audit) -> Iterator[RenderableType]:
    """All names, and how the worst of them diverge."""
    if audit.names:
        heads, *rows = programs.name_rows(audit.names)
        styles = ["" if pair.agrees else "dim" if pair.follows else "bold red" for pair in audit.names]
        table = [shapes.header(*heads), *([shapes.text(cell, style) for cell in row] for row, style in zip(rows, styles, strict=True))]
        shown = table[: _NAMES + 1]
        more = [shapes.text(f"and {len(table) - len(shown)} more names: --json has them all", "dim")] if len(table) > len(shown) else []
        yield shapes.section("Names, in order of execution", shapes.table(shown), *more)
    curves = programs.error_curves(audit, _CURVES, _BARS // 2)
    if curves:
        rows_ = [[shapes.text(name), Text(cells, "cyan"), shapes.text(ends, "dim")] for name, cells, ends in curves]
        yield shapes.section("Relative error from the first occurrence to the last", *map(shapes.cropped, shapes.aligned(rows_)))
    if audit.unaligned:
        shown_ = audit.unaligned[:_UNALIGNED]
        rest = [f"and {len(audit.unaligned) - len(shown_)} more"] if len(audit.unaligned) > len(shown_) else []
        yield shapes.section("Without a counterpart", *map(shapes.item, [*shown_, *rest]))


def _devices(comparison: DeviceComparison) -> RenderableType:
    """How two devices drift apart, as bars on a logarithmic scale, and which ops added most."""
    lines: list[RenderableType] = [shapes.long(arithmetic.comparison(comparison))]
    drawn = devices.chart(comparison.curve, _BARS, comparison.first.index if comparison.first else None)
    if drawn is not None:
        widest = max(len(label) for label, _ in drawn.rows)
        bars = [shapes.cropped(Text.assemble((f"{label:>{widest}} ", "dim"), (cells, "cyan"))) for label, cells in drawn.rows]
        marks = [shapes.cropped(Text.assemble(" " * (widest + 1), (drawn.marks, "bold red")))] if drawn.marks else []
        lines += [Text(), shapes.text("difference between the devices, relative to the norm of the result", "dim"), *bars, *marks]
        lines.append(shapes.cropped(Text(" " * (widest + 1) + drawn.axis, "dim")))
    return shapes.section(devices.devices_title(comparison), *lines, *_errors(comparison.most), *_unmeasured(comparison.unmeasured))


def _shadow(shadow: Shadowed) -> RenderableType:
    """By how much each op is off from what it would be in higher precision, or elsewhere."""
    said = [shapes.long(arithmetic.shadow(shadow))]
    return shapes.section(devices.shadow_title(shadow), *said, *_errors(shadow.most), *_unmeasured(shadow.unmeasured))


def _errors(most: list[OpError]) -> Iterator[RenderableType]:
    """The ops that added most."""
    if not most:
        return
    heads, *found = devices.error_rows(most[:_MOST])
    rows = [[Text(head, "dim", justify="right" if k > 1 else None) for k, head in enumerate(heads)]]
    rows += [[Text(one[0], "cyan"), shapes.text(one[1]), *(Text(figure, justify="right") for figure in one[2:])] for one in found]
    yield Text()
    yield from map(shapes.cropped, shapes.aligned(rows))
    if any(map(devices.is_cancelled, most[:_MOST])):
        yield shapes.text(devices.CANCELLED, "dim")


def _unmeasured(ops: dict[str, int]) -> Iterator[RenderableType]:
    if ops:
        yield Text()
        yield shapes.text(f"not measured: {devices.unmeasured(ops)}", "dim")


def _environment(audit: Audit) -> RenderableType:
    shown, rest = audit.environment[:_FACTS], audit.environment[_FACTS:]
    rows = [shapes.header("", *(run.id for run in audit.runs[:2]))]
    rows += [[shapes.text(fact.name), *shapes.pair(fact.a, fact.b)] for fact in shown]
    more = [shapes.text(f"and {len(rest)} more: {texts.listed(fact.name for fact in rest)}")] if rest else []
    return shapes.section(words.environment_title(audit), shapes.table(rows), *more)


def _runs(audit: Audit) -> RenderableType:
    """How each run ended and where it is kept: one directory for all where there is one."""
    together = words.kept_together(audit)
    lines: list[RenderableType] = []
    shown, hidden = words.run_rows(audit)
    table, remarks = shapes.aligned([_run(row) for row in shown]), [shapes.text(row.how, "dim") for row in shown]
    columns = max(line.cell_len for line in table)
    for row, line, remark in zip(shown, table, remarks, strict=True):
        lines.append(shapes.Beside(line, columns, remark))
        run = row.runs[0]
        if run.error and run.error not in text_of(audit.reason):
            lines.append(shapes.indented(shapes.text(run.error, "red")))
        if not together and run.path:
            lines.append(shapes.indented(shapes.folded(run.path)))
    if hidden:
        lines.append(shapes.text(f"and {texts.counted(hidden, 'more run')} of the search: --json has them all", "dim"))
    if together:
        lines.append(Text("kept in ", "dim").append_text(shapes.folded(together)))
    return shapes.section(words.runs_title(audit), *lines)


def _run(row: words.Row) -> list[Text]:
    run = row.runs[0]
    return [
        shapes.text(row.name),
        shapes.text(words.ending(run), "" if run.exit == 0 else "red"),
        Text(f"{row.seconds} s" if row.seconds else "", justify="right"),
        Text(f"{row.ops} op{'' if row.ops == '1' else 's'}", justify="right"),
        Text(f"{row.steps} step{'' if row.steps == '1' else 's'}", justify="right"),
    ]
