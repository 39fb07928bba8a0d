"""Code frames: the line of a divergence, of its cause or of a finding, with the lines around it as far as the audit has them."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.report.story.rows import Frame, Sides
from auditor.report.story.selection import leading_causes
from auditor.report.words.divergence_facts import meaning
from auditor.report.words.tensors import tensor_remarks
from auditor.report.words.text import plain, plain_line
from auditor.results import Audit, Divergence, NamePair

#: Lines before and behind the one that a frame is about.
_AROUND = 2


def frame_of(file: str | None, line: int | None, code: str | None, around: Sequence[tuple[int, str]], under: str = "") -> Frame | None:
    """The line with those around it, or alone; None where not even the line is known."""
    if around and any(number == line for number, _ in around):
        return Frame(file, line, _trimmed(around, line), under)
    return Frame(file, line, ((line, plain(code)),), under) if code else None


def _trimmed(around: Sequence[tuple[int, str]], line: int | None) -> tuple[tuple[int, str], ...]:
    """The lines from the first to the last that are not blank."""
    shown = [k for k, (number, text) in enumerate(around) if text.strip() or number == line]
    return tuple((number, plain_line(text)) for number, text in around[shown[0] : shown[-1] + 1]) if shown else ()


def divergence_frames(audit: Audit) -> list[Frame]:
    """Where the cause was introduced, if that is another line, and where the runs first differ."""
    divergence = audit.divergence
    failure = audit.failure
    if divergence is None:
        shown = frame_of(failure.file, failure.line, failure.code, failure.around, "both runs fail here") if failure else None
        return [shown] if shown else []
    at = (divergence.file, divergence.line)
    found = []
    for cause in leading_causes(audit):
        if cause.file and (cause.file, cause.line) != at and cause.code:
            how = "introduced here" if cause.proved else "may be introduced here"
            found.append(frame_of(cause.file, cause.line, cause.code, cause.around, f"{how}: {plain(cause.factor)}"))
    found.append(frame_of(divergence.file, divergence.line, divergence.code, divergence.around, _what(divergence)))
    return _merged([frame for frame in found if frame is not None])


def _what(divergence: Divergence) -> str:
    """What is wrong at the line, in a few words."""
    evidence = divergence.detail.evidence
    tensors = [*evidence.inputs, *evidence.outputs] if evidence else []
    remark = next((tensor_remarks(tensor)[0] for tensor in tensors if tensor.rows_permuted or tensor.never_written), "")
    return f"first divergence: {remark or meaning(divergence)}"


def _merged(frames: list[Frame]) -> list[Frame]:
    """The frames, each line in one of them: that which is about it, or else the first that has it."""
    seen = {(frame.file, frame.line) for frame in frames}
    shown = []
    for frame in frames:
        lines = tuple(line for line in frame.lines if line[0] == frame.line or (frame.file, line[0]) not in seen)
        seen.update((frame.file, number) for number, _ in frame.lines)
        shown.append(Frame(frame.file, frame.line, lines, frame.under))
    return shown


def pair_frames(pair: NamePair) -> Sides | None:
    """The lines of both programs that gave a name its values, with as many around each as a frame has."""
    a, b = (
        Frame(file, line, tuple((number, plain_line(text)) for number, text in around if line is None or abs(number - line) <= _AROUND))
        for file, line, around in ((pair.file_a, pair.line_a, pair.around_a), (pair.file_b, pair.line_b, pair.around_b))
    )
    return Sides(a, b) if a.lines and b.lines else None
