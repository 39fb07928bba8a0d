"""What a difference does to the numbers that a user looks at: the loss, the parameters, and what was printed. Pure: reads two traces."""

from __future__ import annotations

import math
from typing import Any

from auditor.compare.printed import LARGEST, printed_metrics
from auditor.results import Effect, Loss, Printed
from auditor.trace.reader import Trace


def effect_of(a: Trace, b: Trace) -> Effect | None:
    """The losses, steps and printed metrics of two runs; None if there are none, or one of the runs was ended before its end."""
    if any(run.unfinished is not None or run.meta.get("stopped") not in (None, "steps") for run in (a, b)):
        return None
    ours, theirs = _updates(a), _updates(b)
    found = Effect(runs=[a.id, b.id], printed=_printed(a, b))
    for x, y in zip(ours, theirs, strict=False):
        step = int(x.get("step") or 0)
        if x.get("loss") is not None and y.get("loss") is not None:
            found.loss = Loss(step=step, a=_number(x["loss"]), b=_number(y["loss"]))
        if found.loss_from is None and x.get("loss_digest") != y.get("loss_digest"):
            found.loss_from = step
        if found.parameters_from is None and x.get("parameters") != y.get("parameters"):
            found.parameters_from = step
    if found.loss is not None and len(ours) == len(theirs):
        found.loss.final = found.loss.step == int(ours[-1].get("step") or 0)
    return found if found.loss or found.printed or found.parameters_from is not None else None


def _updates(run: Trace) -> list[dict[str, Any]]:
    return run.main.events_of("step") if run.main is not None else []


def _number(value: Any) -> float | str:
    """JSON has no numbers that are not finite."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _printed(a: Trace, b: Trace) -> Printed | None:
    """The metrics of both streams together: a logger writes to stderr."""
    found = [printed_metrics(*texts) for name in ("stdout", "stderr") if (texts := _texts(a, b, name)) is not None]
    both = [one for one in found if one is not None]
    if not both:
        return None
    return Printed(
        compared=sum(one.compared for one in both), differing=sum(one.differing for one in both),
        names=list(dict.fromkeys(name for one in both for name in one.names)), last=[metric for one in both for metric in one.last],
    )  # fmt: skip


def _texts(a: Trace, b: Trace, stream: str) -> tuple[str, str] | None:
    """What both runs wrote to a stream; None where one wrote nothing, or more than is compared."""
    try:
        if max((run.path / stream).stat().st_size for run in (a, b)) > LARGEST:
            return None
    except OSError:
        return None
    ours, theirs = a.printed(stream), b.printed(stream)
    return (ours.decode(errors="replace"), theirs.decode(errors="replace")) if ours and theirs else None
