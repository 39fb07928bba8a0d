"""Two traces -> the first divergence of each lane, its kind and its origin. Pure: reads what the traces hold and starts nothing.

**What is aligned with what.** Lanes are paired by name, which is their role (`main`, `worker 0`, `thread 2`), never by time: two
threads interleave differently in every run, and that is no difference. Within a lane, the n-th op or first sight of an external tensor
of one run belongs to the n-th of the other, up to the first that differs in anything that is compared. Behind it nothing is
aligned: what follows is shown as context only, while the two lanes still do the same ops.

**What "first" means.** Draws, seeds, files and settings are recorded in the same order as the ops, but a difference in one of them is no
divergence: a library that draws a name for a temporary file changes nothing. The first differing *op* (or external tensor) decides
that the runs diverged. If its kind says that something came in from outside (`data`, `argument`, another op ...), the draws and seeds
before it are asked for the origin: of the random streams that are seen to feed the line, or else of all, the one whose latest differing
draw is nearest; and of that stream the first draw or seed in which the runs differ (and that feeds the line). A seed that a draw feeds
came from that draw. An op whose inputs are equal has no origin before it, whatever else differs.

**Which lane is reported.** The main lane's divergence, unless it is of a kind that comes in from outside and another lane diverged
too: a worker that draws differently hands the main thread other data. A lane that merely ends earlier than its twin is no
divergence unless it is the main one: workers that are running ahead are stopped at no particular op.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from auditor.compare.arithmetic import compare_devices, divergence_of
from auditor.compare.context import context
from auditor.compare.environment import environment_differences
from auditor.compare.evidence import evidence_at, refined
from auditor.compare.first import Mismatch, allocated_by, first_mismatch
from auditor.compare.origin import DRAWN_FROM_OUTSIDE, differing_files, differing_streams, origin, own_stream
from auditor.compare.shadowed import divergence_of_shadow, shadow_of
from auditor.plan import Watch
from auditor.results import Detail, Divergence, OpLine, Place
from auditor.source import Flow
from auditor.trace.reader import LaneTrace, Trace

__all__ = [
    "Comparison", "before_the_end", "compare", "compare_devices", "divergence_of", "divergence_of_shadow",
    "environment_differences", "shadow_of",
]  # fmt: skip

#: Records before and (twice as many) behind a mismatch at which the second look keeps all values.
_AROUND = 40


@dataclass(frozen=True)
class Comparison:
    """What comparing two traces gave.

    The divergence to report, those of other lanes, what could not be compared, how many ops were, and where a second look
    should be taken (None: it would show no more).
    """

    divergence: Divergence | None
    others: list[Divergence] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compared: int = 0
    watch: Watch | None = None


def compare(a: Trace, b: Trace, *, flow: Flow | None = None) -> Comparison:
    """Compare two runs lane by lane; `flow` tells what arrives where in their source, where that is at hand."""
    found: list[Divergence] = []
    windows: list[Watch | None] = []
    notes: list[str] = []
    compared = 0
    for name, lane in a.lanes.items():
        twin = b.lanes.get(name)
        if twin is None:
            if lane.ops:
                notes.append(f"lane {name} ({lane.ops} ops) exists only in {a.id}")
            continue
        leading = lane is a.main or (name.startswith("rank") and "worker" not in name and "thread" not in name)
        compared += min(lane.ops, twin.ops)
        mismatch = first_mismatch(lane, twin, a, b)
        if mismatch is None:
            continue
        if not leading and mismatch.ended:
            notes.append(f"lane {name} ended at op {mismatch.index} in one run and went on in the other: compared up to there")
            continue
        found.append(_divergence(mismatch, lane, twin, a, b, flow))
        windows.append(_window(mismatch, lane))
    notes += [f"lane {name} ({lane.ops} ops) exists only in {b.id}" for name, lane in b.lanes.items() if name not in a.lanes and lane.ops]
    if not found:
        return Comparison(None, [], notes, compared)
    first = _to_report(found)
    return Comparison(first, [d for d in found if d is not first], notes, compared, windows[found.index(first)])


def before_the_end(a: Trace, b: Trace) -> Detail:
    """What was not the same in two runs that did the same ops: random streams, settings and files of their main lanes."""
    if a.main is None or b.main is None:
        return Detail()
    end = Mismatch("failed", len(a.main.compared[0]), None, None, "")
    return Detail(streams=differing_streams(a.main, b.main, end), files=differing_files(a.main, b.main, end))


def _window(mismatch: Mismatch, lane: LaneTrace) -> Watch | None:
    """The records around a mismatch; the two runs may have a different number of draws before it, so the window is generous."""
    if mismatch.a is None or mismatch.b is None:
        return None
    at = sorted((mismatch.a["record"], mismatch.b["record"]))
    name = re.sub(r" \(\d+\)$", "", lane.name)  # the child knows its role, not how many had it before: its identity tells
    return Watch(name, max(at[0] - _AROUND, 0), at[1] + 2 * _AROUND, lane.facts["identity"] or None)


def _to_report(found: list[Divergence]) -> Divergence:
    leading = found[0]
    if leading.kind in DRAWN_FROM_OUTSIDE:
        feeding = [d for d in found[1:] if d.kind in ("draw", "kernel", "uninitialized", "hidden-write", "data", "data-order", "argument")]
        if feeding and leading.kind != "draw":
            return feeding[0]
    return leading


def _divergence(mismatch: Mismatch, lane: LaneTrace, twin: LaneTrace, a: Trace, b: Trace, flow: Flow | None) -> Divergence:
    """Everything there is to say about one mismatch."""
    evidence = evidence_at(mismatch, lane, twin, a, b)
    kind, sentence = refined(mismatch, evidence, lane)
    if evidence is not None:
        evidence.sentence = sentence
    row = mismatch.a or mismatch.b or {}
    entered = origin(kind, mismatch, lane, twin, flow)
    detail = Detail(
        evidence=evidence,
        streams=differing_streams(lane, twin, mismatch, flow),
        files=differing_files(lane, twin, mismatch),
        a=_shown(mismatch.a),
        b=_shown(mismatch.b),
        forward=Place(file=row["forward_file"], line=row["forward_line"], code=row["forward_code"]) if row.get("forward_file") else None,
        origin=entered.seen if entered is not None else own_stream(mismatch, lane, twin) if kind == "draw" else None,
        row=entered.row if entered is not None else row.get("row"),
    )
    maker = allocated_by(mismatch.a, lane) if kind == "uninitialized" and mismatch.a is not None else None
    if maker is not None:
        detail.allocated = Place(**{key: maker.get(key) for key in ("file", "line", "function", "code")})
    detail.before, detail.carriers, detail.differing_ops, detail.compared_ops = context(mismatch, lane, twin)
    shown: dict[str, Any] = {key: row.get(key) for key in ("step", "file", "line", "function", "code")}
    shown |= {"kind": kind, "op": _op(row), "phase": row.get("phase", "")}
    if entered is not None:
        detail.seen_at = OpLine(
            index=mismatch.index, op=_op(row), phase=row.get("phase", ""), step=row.get("step"), differs=True, file=row.get("file"),
            line=row.get("line"), function=row.get("function"), code=row.get("code"),
        )  # fmt: skip
        sentence = entered.sentence
        shown.update(kind="draw", op=entered.op, file=entered.file, line=entered.line, function=entered.function, code=entered.code)
        shown.update({key: value for key, value in (("phase", entered.phase), ("step", entered.step)) if value is not None})
    return Divergence(
        runs=[a.id, b.id], lane=lane.name, index=mismatch.index if entered is None else entered.index, module=row.get("module"),
        sentence=sentence, detail=detail, **shown,
    )  # fmt: skip


def _op(row: dict[str, object]) -> str:
    return str(row.get("op") or "end of the run")


def _shown(row: dict[str, object] | None) -> dict[str, object]:
    if row is None:
        return {}
    kept = ("op", "args", "numbers", "out", "file", "line", "phase", "step")
    return {key: row[key] for key in kept if row.get(key) is not None} | {"digest": f"{row.get('digest', 0):016x}"}
