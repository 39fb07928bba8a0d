"""What a report says, in which order and in which words: an audit becomes sections of typed rows, and a format renders them.

Nothing here knows how a row looks. The first block is the whole answer and is true by itself. Identifiers of runs, tables of ops and the
context of ops are no part of a story: `verbose` takes the limits off its lists, and a format adds the details behind it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

from auditor.report.story.answer import facts, headline, of_cause
from auditor.report.story.frames import divergence_frames, frame_of, pair_frames
from auditor.report.story.rows import Diff, Entry, Fact, Frame, More, Row, Section, Sides, Story, Tone
from auditor.report.story.selection import Forecast, forecast, grouped, leading_causes, other_lanes, rounding_causes, seen_findings
from auditor.report.story.tail import next_command, tail
from auditor.report.words import arithmetic, devices, programs, streams
from auditor.report.words.cause_facts import ROUNDING_TITLE
from auditor.report.words.divergence_facts import SIDE_TITLE, meaning, reaching, share_that_differs, step_and_phase
from auditor.report.words.findings import FORECAST_BASIS, FORECAST_TITLE, in_steps, other_places, places
from auditor.report.words.patches import patched
from auditor.report.words.reasons import sentence_of, text_of
from auditor.report.words.sides import both_sides
from auditor.report.words.tensors import differing_elements, number, tensor_type
from auditor.report.words.text import INFINITE, LONG, counted, listed, op_name, path, place, plain
from auditor.report.words.verdicts import verdict_label
from auditor.results import Audit, Cause, Difference, Divergence, Finding, OpError

#: Most entries of a list, and most ops that a difference is said to propagate to.
_LIST, _PROPAGATED = 5, 3
#: No list is longer: what is not cut.
_ALL = 1_000_000


def story(audit: Audit, verbose: bool = False) -> Story:
    """All that a report says of an audit; `verbose` lists all."""
    most = _ALL if verbose else _LIST
    sections = [section for section in _sections(audit, most) if section.rows]
    return Story(
        verdict_label(audit), audit.verdict, headline(audit), facts(audit), tuple(sections), tuple(tail(audit, most)), next_command(audit),
    )  # fmt: skip


def _sections(audit: Audit, most: int) -> Iterator[Section]:
    divergence, causes, frames = audit.divergence, leading_causes(audit), divergence_frames(audit)
    yield Section("", tuple(frames))
    if divergence is not None:
        yield Section("", tuple(_first_op(divergence)))
    if len(causes) > 1:
        yield Section(counted(len(causes), "cause"), _cut([_cause(cause, audit) for cause in causes], most))
    for cause in causes:
        if cause.patch is not None:
            yield Section(f"Patch: {patched(cause.patch)}", (Diff(cause.patch),))
    if programs.is_match(audit):
        yield from _match(audit, most)
    yield Section("Other lanes (threads, workers or ranks) that diverge", _cut([_other(*one) for one in other_lanes(audit)], most))
    yield Section(SIDE_TITLE, _cut([_side(side) for side in audit.side], most))
    rounding = [Entry("", plain(cause.factor), text=_rounded(sentence_of(cause.reasons), cause.proved)) for cause in rounding_causes(audit)]
    yield Section(ROUNDING_TITLE, _cut(rounding, most))
    for comparison in audit.devices:
        introduced = _introduced(comparison.most)
        yield Section(devices.devices_title(comparison), (*_said(arithmetic.comparison(comparison)), *introduced))
    if audit.shadow is not None:
        yield Section(devices.shadow_title(audit.shadow), (*_said(arithmetic.shadow(audit.shadow)), *_introduced(audit.shadow.most)))
    yield _findings(audit, most, {(frame.file, frame.line) for frame in frames})
    expected = [_forecast(rule) for rule in forecast(audit)]
    yield Section(f"{FORECAST_TITLE} ({FORECAST_BASIS})", _cut(expected, most))
    yield Section("Notes", _cut(_texts(_notes(audit, most)), most))


def _cut(entries: Sequence[Entry], most: int) -> tuple[Row, ...]:
    """At most so many entries, and how many more there are."""
    return (*entries[:most], *([More(f"and {len(entries) - most} more (-v)")] if len(entries) > most else []))


def _first_op(divergence: Divergence) -> Iterator[Fact]:
    """The first op that differs, where the code does not say it already, and the ops that differ after it."""
    detail = divergence.detail
    evidence = detail.evidence
    tensors = [*evidence.outputs, *evidence.inputs] if evidence else []
    differing = next((tensor for tensor in tensors if tensor.differs), None)
    when = f" in {step_and_phase(divergence)}" if step_and_phase(divergence) else ""
    forward = f" (backward of {place(detail.forward.file, detail.forward.line)})" if detail.forward and detail.forward.file else ""
    said = [f"{op_name(divergence.op).removesuffix('.default')}{when}{forward}, {divergence.kind}"]
    if not divergence.code:
        said.append(meaning(divergence))
    off = [_differing(differing)] if differing is not None else []
    yield Fact("first divergent op", "; ".join([*said, *(off if detail.seen_at is None else [])]))
    for what, a, b in both_sides(divergence)[:_PROPAGATED]:
        yield Fact("differs in", f"{what}: {a} and {b}")
    if detail.allocated is not None and detail.allocated.file:
        yield Fact("memory from", place(detail.allocated.file, detail.allocated.line))
    if detail.seen_at is not None:
        seen = detail.seen_at
        op = f"{op_name(seen.op).removesuffix('.default')} ({place(seen.file, seen.line)})"
        yield Fact("first visible in", "; ".join([op, *off]))
    if detail.carriers:
        ops = [f"{op_name(one.op).removesuffix('.default')} ({place(one.file, one.line)})" for one in detail.carriers]
        few = list(dict.fromkeys(ops))[:_PROPAGATED]
        yield Fact("propagates to", "; ".join(filter(None, [listed(few), share_that_differs(divergence)])))
    elif share_that_differs(divergence):
        yield Fact("propagates to", share_that_differs(divergence) or "")
    before = [f"{plain(one.name)} ({plain(streams.of_stream(one))}{_at(one.file, one.line)})" for one in detail.streams]
    before += [f"{path(one.path)} ({plain(one.op)}{_at(one.file, one.line)}: {streams.of_file(one)})" for one in detail.files]
    if before:
        rest = [f"{len(before) - _PROPAGATED} more (-v)"] if len(before) > _PROPAGATED else []
        yield Fact("differs before it", listed([*before[:_PROPAGATED], *rest]))


def _differing(tensor: Difference) -> str:
    """`float32 [62, 3]: 177 of 186 elements differ, by 0.906 at most`."""
    off = f", by {number(tensor.absolute)} at most" if tensor.absolute is not None else ""
    counts = f"{differing_elements(tensor)} elements" if tensor.elements else "elements"
    return f"{tensor_type(tensor)}: {counts} differ{off}"


def _at(file: str | None, line: int | None) -> str:
    return f", {place(file, line)}" if file else ""


def _cause(cause: Cause, audit: Audit) -> Entry:
    level: str = "proved" if cause.proved else "not proved"
    tone: Tone = "bad" if cause.proved else "doubt"
    return Entry(level, plain(cause.factor), cause.file, cause.line, rows=tuple(of_cause(cause, audit)), tone=tone)


def _other(lanes: str, other: Divergence) -> Entry:
    said = ", ".join(filter(None, [op_name(other.op), step_and_phase(other)]))
    return Entry(other.kind, lanes, other.file, other.line, said)


def _side(side: Divergence) -> Entry:
    return Entry(side.kind, "", side.file, side.line, f"{meaning(side)}; reaches {reaching(side)}")


def _rounded(message: str, proved: bool) -> str:
    return plain(message) if proved else f"not proved: {plain(message)}"


def _said(sentence: str) -> list[Entry]:
    return [Entry("", "", text=plain(sentence, LONG))] if sentence else []


def _introduced(most: Sequence[OpError]) -> list[Fact]:
    """The op that introduced the largest error."""
    if not most:
        return []
    heads, row = devices.error_rows(most[:1])
    named = dict(zip(heads, row, strict=True))
    where, op = row[:2]
    bound, excess = named.get("error bound", ""), most[0].excess
    within = f", {bound}{' its error bound' if excess is not None and excess < INFINITE else ''}" if bound else ""
    error = f" {named['error']}" if named.get("error") else ""
    return [Fact("largest error", f"introduced by {op}{f' ({where})' if where else ''}:{error}{within}")]


def _notes(audit: Audit, most: int) -> list[str]:
    """The notes; without those that give a reason which the line on factors gives too, unless all is listed."""
    known = [reason.parameters for reason in audit.search.left_out.values()] if audit.search and most < _ALL else []
    return [text_of(note) for note in audit.notes if not note.parameters or note.slug != "no-gpu-run" or note.parameters not in known]


def _findings(audit: Audit, most: int, framed: Container[tuple[str | None, int | None]]) -> Section:
    """Findings, the worst first; notes of one rule are one entry. The code of a line that is framed above is not shown again."""
    seen = seen_findings(audit)
    levels = [finding.level for finding in seen]
    counts = [counted(levels.count(level), level) for level in ("error", "warning", "note") if level in levels]
    return Section(", ".join(counts), _cut([_finding(*one, framed) for one in grouped(seen)], most))


def _finding(finding: Finding, others: Sequence[Finding], framed: Container[tuple[str | None, int | None]]) -> Entry:
    new = finding.level != "note" and (finding.file, finding.line) not in framed
    shown = frame_of(None, finding.line, finding.code, finding.around) if new else None
    rows: list[Fact | Frame | Sides] = [shown] if shown else []
    if finding.instead and finding.level != "note":
        rows.append(Fact("fix", plain(finding.instead), "good"))
    more = f" ({other_places(others)})" if others else ""
    return Entry(finding.level, plain(finding.rule), finding.file, finding.line, f"{plain(finding.message)}{more}", tuple(rows))


def _forecast(rule: Forecast) -> Entry:
    """What one rule says of a GPU, where, and how often."""
    said = [f"{places(found)}: {plain(message)}{in_steps(found)}" for message, found in rule.said]
    more = [f"and {counted(rule.more, 'more place')} (--json)"] if rule.more else []
    return Entry("", plain(rule.rule), text="; ".join([*said, *more]))


def _match(audit: Audit, most: int) -> Iterator[Section]:
    """The names whose differences follow from no other, both programs beside each other; how many names agree."""
    origins = programs.origins(audit)
    entries = []
    for k, pair in enumerate(origins, 1):
        name = plain(pair.a) if pair.a == pair.b else f"{plain(pair.a)} and {plain(pair.b)}"
        beside = pair_frames(pair)
        where = programs.pair_place(pair)
        text = programs.relation_words(pair)
        said = f"{where}: {text}" if where and beside is None else text
        entries.append(Entry(str(k), name, text=said, rows=(beside,) if beside else (), tone="bad"))
    yield Section("Differences that follow from no other", _cut(entries, most))
    if audit.names and origins:
        agree = sum(pair.agrees for pair in audit.names)
        follow = sum(pair.follows is not None for pair in audit.names)
        explained = f"; {counted(follow, 'name')} {'differs' if follow == 1 else 'differ'} because of them" if follow else ""
        yield Section("", (Fact("names", f"{agree} of {counted(len(audit.names), 'name')} agree{explained}"),))
    yield Section("No counterpart", _cut(_texts(text_of(one).removesuffix(": no counterpart") for one in audit.unaligned), most))


def _texts(said: Iterable[str]) -> list[Entry]:
    return [Entry("", "", text=plain(one)) for one in said]
