"""The type of a report, and the words that all reports use for the same thing.

A report is given an audit and a text stream and nothing else, for ever: its options belong to the report itself. What
comes from the user (code, paths, values, messages) goes through `plain`; each report then escapes it for its format.
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from auditor.results import Audit, Cause, Difference, Divergence, Finding, Intermittent, Kind, OpLine, RunOutcome, Verdict


@dataclass(frozen=True)
class Report:
    """One way to show an audit. `suffix` is what the names of its files end with."""

    name: str
    why: str
    suffix: str
    render: Callable[[Audit, TextIO], None]


LABELS: dict[Verdict, str] = {
    "diverged": "DIVERGED",
    "no-divergence-seen": "NO DIVERGENCE SEEN",
    "inconclusive": "COULD NOT TELL",
}

#: What a kind of divergence means, as half a sentence.
MEANINGS: dict[Kind, str] = {
    "draw": "the runs drew other random numbers",
    "kernel": "same op, same inputs, another result",
    "uninitialized": "memory was used before it was filled",
    "data": "other data came in",
    "data-order": "same data, another order",
    "hidden-write": "a tensor changed behind torch's back",
    "argument": "an op was given another number or flag",
    "structure": "the runs do not do the same ops",
    "arithmetic": "a result is off by more than the rules allow",
    "failed": "one run stopped with an error, the other did not",
}

#: Most characters of a value that stands beside its twin.
_CONTRAST = 60


def headline(audit: Audit) -> str:
    """What stands behind the verdict's label. It never says that a script is reproducible: nobody can know."""
    divergence = audit.divergence
    if audit.verdict == "inconclusive":
        return plain(audit.reason or "the audit gives no reason")
    if audit.verdict == "no-divergence-seen":
        runs = [run for run in audit.runs if run.role not in ("look", "check")]
        steps = max((run.steps for run in runs), default=0)
        over = f" and {counted(steps, 'step')}" if steps else ""
        levels = [finding.level for finding in audit.findings if finding.level != "note"]
        found = [counted(levels.count(level), level) for level in dict.fromkeys(sorted(levels))]
        but = f", but {listed(found)} among the findings" if found else ""
        return f"in {counted(len(runs), 'run')} of {counted(audit.coverage.ops, 'op')}{over}{but}"
    if divergence is None:
        return "the runs differ"
    where = place(divergence.file, divergence.line) if divergence.file else f"op {divergence.index}"
    moment = f" ({when(divergence)})" if when(divergence) else ""
    often = divergence.intermittent
    how_often = f", in {often.differing} of {counted(often.pairs, 'pair')} of runs" if often else ""
    return f"{listed(divergence.runs)} differ, first at {where}{moment}{how_often}"


def caveat(audit: Audit) -> str | None:
    """What must be said beside the verdict so that it is not taken for more than it is."""
    if audit.verdict == "inconclusive" and audit.divergence is None and audit.coverage.ops:
        return f"No divergence was seen in the {counted(audit.coverage.ops, 'op')} that could be compared."
    if audit.verdict != "no-divergence-seen":
        return None
    varied = sorted({factor for run in audit.runs for factor in run.varied})
    if varied:
        return f"Varied between the runs: {listed(varied)}. Anything else may still make a difference."
    if is_diff(audit) and audit.environment:
        return "What differs in their environment made no difference to these ops. Another machine may still make one."
    return "Nothing was varied between the runs: another machine, thread count or hash seed may still change them."


def is_diff(audit: Audit) -> bool:
    """Whether kept runs were compared; what differs in their environment is then said first."""
    return any(run.role == "kept" for run in audit.runs)


def environment_title(audit: Audit) -> str:
    """How much of the two environments is not the same."""
    whose = listed(run.id for run in audit.runs[:2])
    return f"The environments of {whose} differ in {counted(len(audit.environment), 'fact')}"


def facts(divergence: Divergence) -> list[tuple[str, str]]:
    """What is known of the divergent op in a few words each: (name, fact)."""
    lane = "" if divergence.lane == "main" else f" of lane {plain(divergence.lane)}"
    inside = [f"module {plain(divergence.module)}"] if divergence.module else []
    if divergence.function and divergence.function != "<module>":
        inside.append(f"function {plain(divergence.function)}")
    found = [
        ("op", f"{op_name(divergence.op)} (op {divergence.index}{lane})"),
        ("when", when(divergence)),
        ("in", ", ".join(inside)),
        ("how often", rate(divergence.intermittent) if divergence.intermittent else ""),
    ]
    return [(name, fact) for name, fact in found if fact]


def when(event: Divergence | OpLine) -> str:
    """`step 3, backward`; `setup` for what is before the first step and in no phase of it."""
    before = event.phase == "setup" and event.step == 0
    step = [] if event.step is None or before else [f"step {event.step}"]
    return ", ".join([*step, *([plain(event.phase)] if event.phase else [])])


def rate(intermittent: Intermittent) -> str:
    """How often the runs differed, and which of them agree."""
    alike = [f"{listed(group)} agree" for group in intermittent.groups if len(group) > 1]
    alone = [group[0] for group in intermittent.groups if len(group) == 1]
    said = "; ".join([*alike, *([f"{listed(alone)} with no other"] if alone else [])])
    pairs = f"{intermittent.differing} of {counted(intermittent.pairs, 'pair')} of runs differ"
    return f"{pairs}: {said}" if said else pairs


def spread(divergence: Divergence) -> str | None:
    """How much of what follows differs too; None if it was not counted."""
    differing, compared = divergence.detail.differing_ops, divergence.detail.compared_ops
    if differing is None or compared is None:
        return None
    of = "all" if differing == compared else f"{differing:,} of the"
    return f"{of} {counted(compared, 'op')} compared from here on differ"


def shown_at(divergence: Divergence) -> str:
    """The op whose tensors and arguments are shown: for a draw or seed the first op that shows it."""
    seen = divergence.detail.seen_at
    return f"op {seen.index if seen else divergence.index}"


def sides(divergence: Divergence) -> list[tuple[str, str, str]]:
    """What is not the same about the two runs' own events there: (what, first run, second run)."""
    a, b = ({**side} for side in (divergence.detail.a, divergence.detail.b))
    if not a and not b:
        return []
    if not a or not b:
        ours, theirs = (op_name(str(side.get("op", ""))) if side else "the run has ended" for side in (a, b))
        return [("op", ours, theirs)]
    for side in (a, b):
        side.pop("digest", None)
        side["line"] = place(side.pop("file", None), side.pop("line", None))
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
    return [(plain(key), *contrasted(a.get(key, ""), b.get(key, ""))) for key in keys]


def contrasted(a: object, b: object) -> tuple[str, str]:
    """Two values; of long ones what stands around their first difference."""
    x, y = plain(a, 100_000), plain(b, 100_000)
    cut = next((k for k, (c, d) in enumerate(zip(x, y, strict=False)) if c != d), min(len(x), len(y))) - 12
    if cut > 0 and max(len(x), len(y)) > _CONTRAST:
        x, y = f"…{x[cut:]}", f"…{y[cut:]}"
    return plain(x, _CONTRAST), plain(y, _CONTRAST)


def others(audit: Audit) -> list[tuple[str, Divergence]]:
    """The other lanes' divergences; lanes that differ first at the same line and op, as workers do, together."""
    found: dict[tuple[object, ...], list[Divergence]] = {}
    for other in audit.others:
        found.setdefault((other.kind, other.file, other.line, other.op, other.step, other.phase), []).append(other)
    return [(listed(other.lane for other in alike), alike[0]) for alike in found.values()]


def proof(cause: Cause) -> str:
    """The runs that prove a cause, or that it is not proved."""
    if not cause.proved:
        return "not proved"
    return f"proved by {listed(cause.proof)}" if cause.proof else "proved"


def most_telling(tensors: list[Difference], most: int) -> list[Difference]:
    """At most so many tensors, those that differ before those that do not; in their own order."""
    chosen = sorted(range(len(tensors)), key=lambda k: not tensors[k].differs)[:most]
    return [tensors[k] for k in sorted(chosen)]


def and_more(tensors: list[Difference], shown: list[Difference]) -> str:
    """What `most_telling` left out."""
    hidden = sum(tensor.differs for tensor in tensors) - sum(tensor.differs for tensor in shown)
    return f"and {len(tensors) - len(shown)} more, {f'{hidden} of which differ' if hidden else 'which are the same'}"


def tensor(difference: Difference) -> str:
    """`float32 [64, 32]`."""
    return f"{plain(difference.dtype)} {difference.shape}"


def elements(difference: Difference) -> str:
    """How many elements differ, or `same`."""
    if not difference.differs:
        return "same"
    if not difference.elements:
        return "differs"
    every = difference.elements == difference.of > 1
    return f"all {difference.of:,}" if every else f"{difference.elements:,} of {difference.of:,}"


def number(value: float | None) -> str:
    """Three significant digits; nothing for nothing."""
    return "" if value is None else f"{value:.3g}"


def ulps(value: int | None) -> str:
    """A count of units in the last place, exact while it can be read."""
    return "" if value is None else f"{value:,}" if value < 1_000_000 else f"{value:.1e}"


def remarks(difference: Difference) -> list[str]:
    """What there is to say of a tensor beyond how far it is off."""
    said = ["the same rows, in another order"] if difference.rows_permuted else []
    if difference.never_written:
        said.append("what differs was never written: it is what the memory held before")
    return [*said, plain(difference.note)] if difference.note else said


def covered(audit: Audit) -> str:
    """How much was compared, and how many of the ops wrote in place: the harmful ones are among the findings."""
    seen = audit.coverage
    compared = f"{counted(seen.ops, 'op')} compared in {counted(seen.lanes, 'lane')}"
    if not seen.in_place_writes:
        return compared
    return f"{compared}; {counted(seen.in_place_writes, 'in-place write')} in {counted(seen.in_place_lines, 'line')}"


def not_covered(audit: Audit) -> list[str]:
    """What the recorder knows that it missed; the same in several lanes or runs is said once."""
    found: dict[str, list[str]] = {}
    for lost in audit.coverage.lost:
        times = counted(lost.count, "time") if lost.count > 1 else ""
        where = [plain(name) for name in (lost.lane if lost.lane != "main" else None, lost.run) if name]
        seen = " in ".join(filter(None, [times, " of ".join(where)]))
        found.setdefault(plain(lost.what), []).append(seen)
    details = {what: "; ".join(dict.fromkeys(filter(None, seen))) for what, seen in found.items()}
    return [f"{what} ({seen})" if seen else what for what, seen in details.items()]


def runs_title(audit: Audit) -> str:
    """`4 runs of train.py --lr 0.1`."""
    script = plain(shlex.join(audit.script))
    return f"{counted(len(audit.runs), 'run')}{f' of {script}' if script else ''}"


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, list[Finding]]]:
    """Findings as they are shown: notes of one rule together, the first with the others; everything else by itself."""
    shown: list[tuple[Finding, list[Finding]]] = []
    notes: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.level != "note":
            shown.append((finding, []))
        elif finding.rule in notes:
            notes[finding.rule].append(finding)
        else:
            shown.append((finding, notes.setdefault(finding.rule, [])))
    return shown


def elsewhere(others: Sequence[Finding]) -> str:
    """Where else a note was found: a few places, and how many more."""
    places = [place(other.file, other.line) for other in others if other.file]
    few, more = places[:4], len(others) - len(places[:4])
    return f"also in {listed([*few, counted(more, 'more place')] if more else few)}" if few else f"and {counted(more, 'more place')}"


def ending(run: RunOutcome) -> str:
    """How a run ended: its exit status, the signal that ended it, or why the auditor did."""
    if run.stopped == "steps":
        return f"stopped after {counted(run.steps, 'step')}"
    if run.stopped:
        return {"timeout": "ended by --timeout", "interrupted": "interrupted", "look": "seen enough"}.get(run.stopped, plain(run.stopped))
    if run.exit is None:
        return "exit unknown"
    if run.exit < 0:
        try:
            return f"killed by {signal.Signals(-run.exit).name}"
        except ValueError:
            return f"killed by signal {-run.exit}"
    return f"exit {run.exit}"


def kept_together(audit: Audit) -> str | None:
    """The directory that has all runs under their own ids; None if there is no such directory."""
    folders = {run.path.removesuffix(f"/{run.id}") for run in audit.runs}
    together = len(folders) == 1 and all(run.path.endswith(f"/{run.id}") for run in audit.runs)
    return path(folders.pop()) if together else None


def plain(value: object, most: int = 400) -> str:
    """One line of at most `most` printable characters.

    White space is a blank; control characters, bidirectional marks and lone surrogates are shown as escapes. So nothing
    that a script prints, contains or is named can act on a terminal, break an encoding or bury the rest of a report.
    """
    text = str(value)[: 2 * most].strip()
    text = "".join(c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def path(value: object) -> str:
    """A path that may have to be copied: plain, and never shortened."""
    return plain(value, 10_000)


def counted(amount: int, noun: str) -> str:
    """`1 op`, `1,234 ops`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def listed(names: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = [plain(name) for name in names] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def place(file: str | None, line: int | None) -> str:
    """`train.py:31`, as editors and terminals understand it."""
    if not file:
        return "no line of the script"
    return path(file) if line is None else f"{path(file)}:{line}"


def op_name(op: str) -> str:
    """The overload name; what is not an op, in words."""
    return "tensor from outside" if op == "external" else plain(op)


_ASCII = str.maketrans({"→": ">", "≠": "*", "│": "|", "…": "~"})


def write(out: TextIO, text: str) -> None:
    """Write a whole report, in characters that the stream's encoding has: no verdict is lost to `LANG=C`."""
    encoding = out.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    out.write(text)
