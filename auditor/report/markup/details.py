"""What the Markdown report folds away: the evidence, the names or devices that were compared, the environment, and the runs."""

from __future__ import annotations

import html
from collections.abc import Iterator

from auditor.report.markup.spans import cell, code, text
from auditor.report.story.runs import run_rows
from auditor.report.story.selection import most_telling
from auditor.report.words import devices, programs, streams
from auditor.report.words import text as texts
from auditor.report.words.coverage_facts import covered
from auditor.report.words.divergence_facts import divergence_facts, share_that_differs, shown_at
from auditor.report.words.provenance import PROVENANCE_TITLE, provenance_facts
from auditor.report.words.runs import ending, environment_title, kept_together, runs_title
from auditor.report.words.sides import both_sides
from auditor.report.words.tensors import differing_elements, number, tensor_remarks, tensor_type, tensors_left_out, ulps
from auditor.report.words.text import LONG
from auditor.results import Audit, Difference, Divergence, OpError

#: Most entries of a list, tensors of one op, ops that a difference propagates to, rows of runs and of names: a screen or two in all.
_LIST, _TENSORS, _PROPAGATED, _RUNS, _NAMES = 5, 4, 3, 12, 12


def folded(audit: Audit) -> Iterator[list[str] | Iterator[str]]:
    """The evidence, and the runs."""
    yield ["<details>"]
    # within an HTML block a backslash is a backslash
    yield [f"<summary>{html.escape(runs_title(audit), quote=False)}, {covered(audit)}</summary>"]
    divergence = audit.divergence
    if divergence is not None:
        yield _facts(divergence)
        yield _evidence(divergence)
        yield _propagation(divergence)
        yield _list("Differ before it:", [*_streams(divergence), *_files(divergence)])
    if audit.names:
        yield _names(audit)
    for comparison in audit.devices:
        yield _errors(comparison.most)
    if audit.shadow is not None:
        yield _errors(audit.shadow.most)
    title = f"{text(environment_title(audit))}:"
    yield _list(title, [f"{text(fact.name)}: {_either(fact.a, fact.b)}" for fact in audit.environment])
    made = [f"{name}: {text(fact, LONG)}" for name, fact in provenance_facts(audit.provenance)]
    yield _list(f"{PROVENANCE_TITLE}:", made)
    if audit.runs:
        yield _runs(audit)
    yield ["</details>"]


def _facts(divergence: Divergence) -> Iterator[str]:
    """What is known of the op at which the runs diverge."""
    yield f"**{divergence.kind}** in {texts.op_name(divergence.op) if divergence.op == 'external' else code(divergence.op)}"
    yield ""
    for name, fact in divergence_facts(divergence):
        if name not in ("op", "reaches"):
            yield f"- {name}: {text(fact, LONG)}"
    detail = divergence.detail
    for name, line in (("forward line", detail.forward), ("memory of", detail.allocated), ("visible in", detail.seen_at)):
        if line is not None:
            yield f"- {name}: {code(texts.place(line.file, line.line))}{f' {code(line.code)}' if line.code else ''}"
    for what, a, b in both_sides(divergence):
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


def _evidence(divergence: Divergence) -> Iterator[str]:
    evidence = divergence.detail.evidence
    tensors = [*evidence.inputs, *evidence.outputs] if evidence else []
    if not evidence or not tensors:
        return
    runs = " / ".join(cell(run) for run in evidence.runs or divergence.runs)
    yield f"| {shown_at(divergence)} | tensor | elements | largest | relative | ULP | first: {runs} |"
    yield "|---|---|---|---|---|---|---|"
    shown = most_telling(tensors, _TENSORS)
    yield from map(_tensor, shown)
    if len(shown) < len(tensors):
        yield f"| | {tensors_left_out(tensors, shown)} | | | | | |"


def _tensor(difference: Difference) -> str:
    first = f"{difference.first}: {cell(difference.a)} / {cell(difference.b)}" if difference.first is not None else ""
    cells = (
        text(difference.slot),
        cell(tensor_type(difference)),
        differing_elements(difference),
        number(difference.absolute),
        number(difference.relative),
        ulps(difference.ulp),
        "; ".join(filter(None, [first, *map(text, tensor_remarks(difference))])),
    )
    return f"| {' | '.join(cells)} |"


def _propagation(divergence: Divergence) -> Iterator[str]:
    spread = share_that_differs(divergence)
    if divergence.detail.carriers:
        yield f"Propagates to{f' ({spread})' if spread else ''}:"
        known = None
        for line in divergence.detail.carriers[:_PROPAGATED]:
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
    """The ops that introduced most."""
    if not most:
        return
    heads, *rows = devices.error_rows(most[:_LIST])
    yield from ("", f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(heads) - 2)}")
    for where, op, *figures in rows:
        yield f"| {cell(where)} | {cell(op)} | {' | '.join(figures)} |"
    if any(map(devices.is_cancelled, most[:_LIST])):
        yield from ("", text(devices.CANCELLED))


def _runs(audit: Audit) -> Iterator[str]:
    together = kept_together(audit)
    shown, hidden = run_rows(audit, _RUNS)
    made, where = any(row.how for row in shown), not together
    yield f"| run | ended | seconds | ops | steps |{' with |' if made else ''}{' kept in |' if where else ''}"
    yield f"|---|---|---|---|---|{'---|' if made else ''}{'---|' if where else ''}"
    for row in shown:
        run = row.runs[0]
        ended = f"{ending(run)}: {cell(run.error)}" if run.error else ending(run)
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
