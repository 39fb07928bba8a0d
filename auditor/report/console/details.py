"""What the terminal report adds under --verbose: the evidence, the ops around the divergence, each proof by its runs, and all runs."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from auditor.report.console import shapes
from auditor.report.console.devices import compared_devices, recomputed
from auditor.report.console.divergence import explained, facts
from auditor.report.story.runs import RunRow, run_rows
from auditor.report.story.scope import caveat, not_covered
from auditor.report.story.selection import leading_causes, rounding_causes
from auditor.report.words import programs
from auditor.report.words import text as texts
from auditor.report.words.cause_facts import ROUNDING_TITLE, cause_facts, rounding_facts, shows_elsewhere
from auditor.report.words.coverage_facts import covered
from auditor.report.words.patches import patched
from auditor.report.words.provenance import PROVENANCE_TITLE, provenance_facts
from auditor.report.words.reasons import sentence_of, text_of
from auditor.report.words.runs import ending, environment_title, kept_together, runs_title
from auditor.report.words.text import plain
from auditor.results import (
    Audit,
    Cause,
    OpLine,
)

#: Most facts of the environment that are listed; the others are named.
_FACTS = 40
#: Most names in the table, without a counterpart, and as curves.
_NAMES, _UNALIGNED, _CURVES = 40, 12, 6
#: Columns of the curves.
_COLUMNS = 36


def details(audit: Audit) -> Iterator[RenderableType]:
    """All that explains the first block, section by section."""
    divergence = audit.divergence
    if programs.is_match(audit):
        yield from _match(audit)
    proofs = [_cause(cause, audit) for cause in leading_causes(audit)]
    if proofs:
        yield shapes.section("Causes and their runs", *proofs)
    if divergence is not None:
        yield shapes.section("First divergent op", facts(divergence))
        yield from explained(divergence)
    rounding = rounding_causes(audit)
    if rounding:
        yield shapes.section(ROUNDING_TITLE, *(_sensitive(cause, audit) for cause in rounding))
    yield from map(compared_devices, audit.devices)
    if audit.shadow is not None:
        yield recomputed(audit.shadow)
    if audit.environment:
        yield _environment(audit)
    scope = caveat(audit)
    if scope:
        yield shapes.section("Scope", shapes.long(scope))
    missed = [shapes.item(what) for what in not_covered(audit)]
    if missed or not programs.is_match(audit):
        yield shapes.section("Coverage", shapes.text(covered(audit)), *missed)
    made = provenance_facts(audit.provenance)
    if made:
        rows = [[shapes.text(name, "dim"), shapes.long(fact)] for name, fact in made]
        yield shapes.section(PROVENANCE_TITLE, shapes.table(rows))
    if audit.runs:
        yield _runs(audit)


def _cause(cause: Cause, audit: Audit) -> RenderableType:
    """What is to blame and its line, then why, the proof, and what to change."""
    where = Text.assemble("  ", _introduced(cause)) if cause.file else Text()
    title = shapes.cropped(Text.assemble(shapes.text(cause.factor, "bold red" if cause.proved else "bold yellow"), where))
    rows = [[shapes.text(name, "dim"), shapes.long(sentence)] for name, sentence in cause_facts(cause, audit)]
    if shows_elsewhere(cause, audit):
        heads = [shapes.text("seen at", "dim"), Text()]
        rows += [[head, line] for head, line in zip(heads, _seen(cause.seen_at), strict=True)]
    if cause.patch is not None:
        rows.append([shapes.text("patch", "dim"), shapes.long(patched(cause.patch, named=True))])
    lines: list[RenderableType] = [shapes.indented(shapes.table(rows))] if rows else []
    return shapes.indented(Group(title, *lines))


def _introduced(cause: Cause) -> Text:
    """The line where a cause was introduced: its code, or at least the function."""
    inside = f"in {plain(cause.function)}" if cause.function and cause.function != "<module>" and not cause.code else ""
    return shapes.source(cause.file, cause.line, shapes.text(cause.code or inside, "bold" if cause.code else ""))


def _sensitive(cause: Cause, audit: Audit) -> RenderableType:
    """A factor that changes how results are rounded: no more than a remark."""
    rows = [[shapes.text(cause.factor, "bold cyan"), shapes.text(sentence_of(cause.reasons))]]
    rows += [[Text(), line] for line in _seen(cause.seen_at)]
    rows += [[Text(), shapes.long(sentence, "dim")] for sentence in rounding_facts(cause, audit)]
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
    curves = programs.error_curves(audit, _CURVES, _COLUMNS)
    if curves:
        rows_ = [[shapes.text(name), Text(cells, "cyan"), shapes.text(ends, "dim")] for name, cells, ends in curves]
        yield shapes.section("Relative error from the first occurrence to the last", *map(shapes.cropped, shapes.aligned(rows_)))
    if audit.unaligned:
        shown_ = [text_of(one) for one in audit.unaligned[:_UNALIGNED]]
        rest = [f"and {len(audit.unaligned) - len(shown_)} more"] if len(audit.unaligned) > len(shown_) else []
        yield shapes.section("Without a counterpart", *map(shapes.item, [*shown_, *rest]))


def _environment(audit: Audit) -> RenderableType:
    shown, rest = audit.environment[:_FACTS], audit.environment[_FACTS:]
    rows = [shapes.header("", *(run.id for run in audit.runs[:2]))]
    rows += [[shapes.text(fact.name), *shapes.pair(fact.a, fact.b)] for fact in shown]
    more = [shapes.text(f"and {len(rest)} more: {texts.listed(fact.name for fact in rest)}")] if rest else []
    return shapes.section(environment_title(audit), shapes.table(rows), *more)


def _runs(audit: Audit) -> RenderableType:
    """How each run ended and where it is kept: one directory for all where there is one."""
    together = kept_together(audit)
    lines: list[RenderableType] = []
    shown, hidden = run_rows(audit)
    table, remarks = shapes.aligned([_run(row) for row in shown]), [shapes.text(row.how, "dim") for row in shown]
    columns = max(line.cell_len for line in table)
    for row, line, remark in zip(shown, table, remarks, strict=True):
        lines.append(shapes.Beside(line, columns, remark))
        run = row.runs[0]
        if run.error and (audit.failure is None or run.error != audit.failure.error):
            lines.append(shapes.indented(shapes.text(run.error, "red")))
        if not together and run.path:
            lines.append(shapes.indented(shapes.folded(run.path)))
    if hidden:
        lines.append(shapes.text(f"and {texts.counted(hidden, 'more run')} of the search: --json has them all", "dim"))
    if together:
        lines.append(Text("kept in ", "dim").append_text(shapes.folded(together)))
    return shapes.section(runs_title(audit), *lines)


def _run(row: RunRow) -> list[Text]:
    run = row.runs[0]
    return [
        shapes.text(row.name),
        shapes.text(ending(run), "" if run.exit == 0 else "red"),
        Text(f"{row.seconds} s" if row.seconds else "", justify="right"),
        Text(f"{row.ops} op{'' if row.ops == '1' else 's'}", justify="right"),
        Text(f"{row.steps} step{'' if row.steps == '1' else 's'}", justify="right"),
    ]
