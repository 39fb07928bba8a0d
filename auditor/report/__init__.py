"""The type of a report, and the words that every report uses for the same thing.

A report takes an `Audit` and a text stream, and nothing else for ever: what a report can be told belongs to the report. What comes
from the user (code, paths, values, error messages) passes through `plain` and is then escaped by the report for its own format.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TextIO

from auditor.results import Audit, Difference, Divergence, Intermittent, Kind, OpLine, RunOutcome, Verdict


@dataclass(frozen=True)
class Report:
    """One way to show an audit. `suffix` is what its files end with."""

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
    "draw": "a random stream was in another state when it was drawn from",
    "kernel": "same op, same inputs, another result",
    "uninitialized": "memory was read before anything was written to it",
    "data": "a tensor came in from outside with other values",
    "data-order": "a tensor came in from outside with the same rows in another order",
    "hidden-write": "a tensor changed although no recorded op wrote to it",
    "argument": "an op was given another number or flag",
    "structure": "from here on the runs do not do the same ops",
    "arithmetic": "a result is off by more than the rules allow, given what went in",
    "failed": "the runs are equal up to here, where one of them stopped with an error",
}


def headline(audit: Audit) -> str:
    """The sentence that stands behind the verdict's label. Never says that a script is reproducible: nobody can know."""
    divergence = audit.divergence
    if audit.verdict == "inconclusive":
        return plain(audit.reason or "the audit gives no reason")
    if audit.verdict == "no-divergence-seen":
        runs = [run for run in audit.runs if run.role != "look"]
        steps = max((run.steps for run in runs), default=0)
        over = f" and {counted(steps, 'step')}" if steps else ""
        return f"in {counted(len(runs), 'run')} of {counted(audit.coverage.ops, 'op')}{over}"
    if divergence is None:
        return "the runs differ"
    first = f", first at {place(divergence.file, divergence.line)}" if divergence.file else ""
    moment = when(divergence)
    often = divergence.intermittent
    how_often = f", in {often.differing} of {counted(often.pairs, 'pair')} of runs" if often else ""
    return f"{listed(divergence.runs)} differ{first}{f' ({moment})' if moment else ''}{how_often}"


def caveat(audit: Audit) -> str | None:
    """What a verdict of no divergence does not say; None for the other verdicts."""
    if audit.verdict == "inconclusive" and audit.divergence is None and audit.coverage.ops:
        return f"No divergence was seen in the {counted(audit.coverage.ops, 'op')} that could be compared."
    if audit.verdict != "no-divergence-seen":
        return None
    varied = sorted({factor for run in audit.runs for factor in run.varied})
    if varied:
        return f"Varied between the runs: {listed(varied)}. Anything else may still make a difference."
    if is_diff(audit) and audit.environment:
        return "What differs in their environment made no difference to these ops. Another machine or seed may still make one."
    return "Nothing was varied between the runs: another machine, thread count or hash seed may still make a difference."


def is_diff(audit: Audit) -> bool:
    """Whether kept runs were compared; what differs in their environment is then said first."""
    return any(run.role == "kept" for run in audit.runs)


def plain(value: object) -> str:
    """One line of printable text: white space is a blank, and control characters, bidirectional marks and lone surrogates are
    shown as escapes, so that nothing that a script prints or is named can act on a terminal or break an encoding.
    """
    text = "".join(c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in str(value))
    return text.strip()


def counted(number: int, noun: str) -> str:
    """`1 op`, `1,234 ops`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = [plain(name) for name in names] or ["nothing"]
    return f"{', '.join(most)} and {last}" if most else last


def place(file: str | None, line: int | None) -> str:
    """`train.py:31`, as editors and terminals understand it."""
    if not file:
        return "no line of the script"
    return plain(file) if line is None else f"{plain(file)}:{line}"


def when(event: Divergence | OpLine) -> str:
    """`step 3, backward`."""
    return ", ".join(([] if event.step is None else [f"step {event.step}"]) + ([plain(event.phase)] if event.phase else []))


def facts(divergence: Divergence) -> list[tuple[str, str]]:
    """What is known of the divergent op in a few words each: (name, fact)."""
    lane = "" if divergence.lane == "main" else f" of lane {plain(divergence.lane)}"
    inside = [f"module {plain(divergence.module)}"] if divergence.module else []
    if divergence.function and divergence.function != "<module>":
        inside.append(f"function {plain(divergence.function)}")
    found = [("op", f"{op_name(divergence.op)}, op {divergence.index}{lane}"), ("when", when(divergence)), ("in", ", ".join(inside))]
    if divergence.intermittent is not None:
        found.append(("how often", rate(divergence.intermittent)))
    return [(name, fact) for name, fact in found if fact]


def op_name(op: str) -> str:
    """The overload name; what is not an op, in words."""
    return "tensor from outside" if op == "external" else plain(op)


def rate(intermittent: Intermittent) -> str:
    """How often the runs differed, and which of them agree."""
    groups = "; ".join(("alone: " if len(group) == 1 else "alike: ") + listed(group) for group in intermittent.groups)
    return f"{intermittent.differing} of {counted(intermittent.pairs, 'pair')} of runs differ{f' ({groups})' if groups else ''}"


def spread(divergence: Divergence) -> str | None:
    """How much of what follows differs too; None if it was not counted."""
    detail = divergence.detail
    if detail.differing_ops is None or detail.compared_ops is None:
        return None
    return f"{detail.differing_ops:,} of the {counted(detail.compared_ops, 'op')} compared from here on differ"


def tensor(difference: Difference) -> str:
    """`float32 [64, 32]`."""
    return f"{plain(difference.dtype)} {difference.shape}"


def elements(difference: Difference) -> str:
    """How many elements differ, or `same`."""
    if not difference.differs:
        return "same"
    if not difference.elements:
        return "differs"
    return f"all {difference.of:,}" if difference.elements == difference.of > 1 else f"{difference.elements:,} of {difference.of:,}"


def number(value: float | None) -> str:
    """Three significant digits; nothing for nothing."""
    return "" if value is None else f"{value:.3g}"


def ulps(value: int | None) -> str:
    """A count of units in the last place: exact while it can be read."""
    return "" if value is None else f"{value:,}" if value < 1_000_000 else f"{value:.1e}"


def remarks(difference: Difference) -> list[str]:
    """What there is to say of a differing tensor beyond how far it is off."""
    said = []
    if difference.rows_permuted:
        said.append("the same rows, in another order")
    if difference.never_written:
        said.append("what differs was never written: it is what the memory held before")
    if difference.note:
        said.append(plain(difference.note))
    return said


def sides(divergence: Divergence) -> list[tuple[str, str, str]]:
    """What is not the same about the two runs' own events at the divergence: (what, first run, second run)."""
    a, b = ({**side} for side in (divergence.detail.a, divergence.detail.b))
    for side in (a, b):
        side.pop("digest", None)
        if side:
            file, line = side.pop("file", None), side.pop("line", None)
            side["line"] = place(file, line)
    if not a or not b:
        return [("op", *(op_name(str(side.get("op", ""))) if side else "the run has ended" for side in (a, b)))] if a or b else []
    return [
        (key, *(plain(side[key]) if key in side else "" for side in (a, b)))
        for key in sorted({*a, *b}, key=[*a, *b].index)
        if a.get(key) != b.get(key)
    ]


def not_covered(audit: Audit) -> list[str]:
    """What the recorder knows that it missed, each once."""
    found: dict[str, list[str]] = {}
    for lost in audit.coverage.lost:
        where = " ".join(part for part in (lost.lane if lost.lane != "main" else None, f"of {lost.run}" if lost.run else None) if part)
        times = counted(lost.count, "time") if lost.count > 1 else ""
        found.setdefault(plain(lost.what), []).append(", ".join(part for part in (times, plain(where)) if part))
    return [f"{what} ({'; '.join(dict.fromkeys(filter(None, seen)))})" if any(seen) else what for what, seen in found.items()]


def covered(audit: Audit) -> str:
    """How much was compared."""
    return f"{counted(audit.coverage.ops, 'op')} compared in {counted(audit.coverage.lanes, 'lane')}"


def ending(run: RunOutcome) -> str:
    """How a run ended: its exit status, the signal that ended it, or why the auditor did."""
    if run.stopped == "steps":
        return f"stopped after {counted(run.steps, 'step')}"
    if run.stopped:
        return {"timeout": "ended by --timeout", "interrupted": "interrupted"}.get(run.stopped, plain(run.stopped))
    if run.exit is None:
        return "exit unknown"
    if run.exit < 0:
        try:
            return f"killed by {signal.Signals(-run.exit).name}"
        except ValueError:
            return f"killed by signal {-run.exit}"
    return f"exit {run.exit}"


def command(audit: Audit) -> str:
    """The script and its arguments as they would be typed."""
    return plain(shlex.join(audit.script))


def kept_together(audit: Audit) -> str | None:
    """The directory that has all runs under their own ids; None if there is no such directory."""
    folders = {run.path.removesuffix(os.sep + run.id) for run in audit.runs}
    together = len(folders) == 1 and all(run.path.endswith(os.sep + run.id) for run in audit.runs)
    return plain(folders.pop()) if together else None


def write(out: TextIO, text: str) -> None:
    """Write all of a report at once, in characters that the stream's encoding has: a verdict is not lost to `LANG=C`."""
    encoding = out.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    out.write(text)


_ASCII = str.maketrans({"→": ">", "≠": "*", "│": "|", "─": "-", "…": "~", "×": "x"})
