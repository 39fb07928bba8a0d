"""The divergent op under --verbose: what is known of it, its tensors in both runs, the ops around it, what differs before it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from auditor.report.console import shapes
from auditor.report.story.selection import most_telling
from auditor.report.words import streams
from auditor.report.words import text as texts
from auditor.report.words.divergence_facts import divergence_facts, meaning, share_that_differs, shown_at, step_and_phase
from auditor.report.words.reasons import sentence_of, text_of
from auditor.report.words.sides import both_sides
from auditor.report.words.tensors import differing_elements, number, tensor_remarks, tensor_type, tensors_left_out, ulps
from auditor.report.words.text import plain
from auditor.results import (
    Difference,
    Divergence,
    Evidence,
    OpLine,
    Stream,
)

#: Most tensors of one op that are listed; the others are counted.
_TENSORS = 6
#: How an op is marked in the strip, and in which colour.
_SAME, _FIRST, _PROPAGATES = ("=", "green"), ("→", "bold red"), ("≠", "yellow")


def facts(divergence: Divergence) -> RenderableType:
    """What is known of the divergent op, one fact a line."""
    forward, seen = divergence.detail.forward, divergence.detail.seen_at
    said = shapes.text(meaning(divergence))
    if divergence.reasons:
        said.append("\n").append_text(shapes.text(sentence_of(divergence.reasons)))
    rows = [[shapes.text(divergence.kind, "bold red"), said]]
    rows += [[shapes.text(name, "dim"), shapes.text(fact)] for name, fact in divergence_facts(divergence)]
    for name, line in (("forward", forward), ("memory of", divergence.detail.allocated)):
        if line is not None:
            rows.append([shapes.text(name, "dim"), shapes.source(line.file, line.line, shapes.text(line.code))])
    if seen is not None:
        rows.append([shapes.text("seen at", "dim"), shapes.source(seen.file, seen.line, shapes.text(seen.code))])
        rows.append([Text(), shapes.text(f"{texts.op_name(seen.op)} (op {seen.index})")])
    return shapes.table(rows)


def explained(divergence: Divergence) -> Iterator[RenderableType]:
    """What is not the same about the two runs, from the divergent op outwards."""
    detail = divergence.detail
    sides = both_sides(divergence)
    if sides:
        rows = [shapes.header("", *divergence.runs), *([shapes.text(value) for value in side] for side in sides)]
        yield shapes.section(f"The two runs at {shown_at(divergence)}", shapes.table(rows))
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
        shown = most_telling(tensors, _TENSORS)
        for difference in shown:
            rows.append(_measured(difference))
            below[len(rows) - 1] = _first_element(difference)
        if len(shown) < len(tensors):
            below[len(rows) - 1].append(shapes.text(tensors_left_out(tensors, shown), "dim"))
    op, runs = shown_at(divergence), " and ".join(evidence.runs or divergence.runs)
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
        shapes.text(tensor_type(difference), "" if differs else "dim"),
        shapes.text(differing_elements(difference), "bold red" if differs else "green"),
        shapes.text(number(difference.absolute)),
        shapes.text(number(difference.relative)),
        shapes.text(ulps(difference.ulp)),
    ]


def _first_element(difference: Difference) -> list[Text]:
    lines = []
    if difference.first is not None:
        lines.append(shapes.text(f"first at {difference.first}: {difference.a} | {difference.b}"))
    return lines + [shapes.text(remark, "yellow") for remark in tensor_remarks(difference)]


def _strip(divergence: Divergence) -> RenderableType:
    """The ops just before the divergence, its own and the first that it propagates to, under their lines of code."""
    detail = divergence.detail
    origin = OpLine(**divergence.model_dump(include={"file", "line", "code", "index", "op", "phase", "step"}))
    shown = [(line, _PROPAGATES if line.differs else _SAME) for line in detail.before]
    shown += [(line, _PROPAGATES) for line in [*([detail.seen_at] if detail.seen_at else []), *detail.carriers]]
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
        remarks = [step_and_phase(line) if step_and_phase(line) != moment else "", plain(text_of(line.note))]
        entry.append("".join(f"  {remark}" for remark in remarks if remark), "dim")
        moment = step_and_phase(line)
        lines.append(shapes.cropped(entry))
    spread = share_that_differs(divergence)
    title = Text.assemble(("Ops around the divergence", "bold"), ("   = same in both runs   → differs first   ≠ propagates", "dim"))
    return shapes.section(title, *lines, *([shapes.text(spread)] if spread else []))


def _streams(found: list[Stream]) -> RenderableType:
    valued = any(stream.a is not None or stream.b is not None for stream in found)
    rows = []
    for stream in found:
        values = shapes.pair(stream.a, stream.b) if valued else []
        rows.append([shapes.text(stream.name), shapes.text(streams.of_stream(stream)), *values, shapes.where(stream.file, stream.line)])
    return shapes.table(rows)
