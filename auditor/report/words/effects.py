"""What a difference does to the numbers that a user looks at: losses and printed metrics of both runs."""

from __future__ import annotations

import math

from auditor.report.words.text import plain
from auditor.results import Effect, Loss, PrintedMetric

#: Most printed metrics that are named, and most digits that a loss is shown with.
_NAMED, _DIGITS = 2, 17
#: Relative difference below which digits say less than the difference.
_TINY = 1e-5
#: Relative difference up to which a printed number is taken for the loss, rounded.
_CLOSE = 0.01


def losses(effect: Effect) -> str:
    """`final loss 0.0755 and 0.0741 (1.9 %)`; nothing where no loss is known."""
    loss = effect.loss
    if loss is None:
        return ""
    name = "final loss" if loss.final else f"loss at step {loss.step}:"
    a, b = _both(loss)
    relative = _relative(loss)
    if a == b or not relative:
        return f"{name} {a} in both runs" if a == b else f"{name} {a} and {b}"
    if relative < _TINY:
        return f"{name} {_shown(loss.a, 3)}, with a relative difference of {relative:.0e} between the runs"
    return f"{name} {a} and {b} ({f'{100 * relative:.0f}' if relative >= 0.1 else f'{100 * relative:.2g}'} %)"


def final_loss(effect: Effect | None) -> str:
    """`0.0755`, where both runs end with the same loss; else nothing."""
    loss = effect.loss if effect is not None else None
    return _both(loss)[0] if loss is not None and loss.final and loss.a == loss.b else ""


def _both(loss: Loss) -> tuple[str, str]:
    """Two losses in three digits, or in as many as tell them apart."""
    for digits in range(3, _DIGITS + 1):
        shown = _shown(loss.a, digits), _shown(loss.b, digits)
        if shown[0] != shown[1] or loss.a == loss.b:
            return shown
    return shown


def _shown(value: float | str, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else plain(value, 20)


def _relative(loss: Loss) -> float | None:
    """How far two losses are apart relative to the larger one; None where one is not finite."""
    if isinstance(loss.a, str) or isinstance(loss.b, str) or loss.a == loss.b:
        return None
    relative = abs(loss.a - loss.b) / max(abs(loss.a), abs(loss.b))
    return relative if math.isfinite(relative) else None


def printed(effect: Effect) -> str:
    """`printed accuracy 93.1% and 92.8%`, or that no metric differs in its digits; of the loss only what `losses` does not say."""
    found = effect.printed
    if found is None or not found.compared:
        return ""
    if not found.differing:
        only = plain(found.names[0]) if len(found.names) == 1 else "metrics"
        values = f"{only} values" if len(found.names) == 1 else only
        which = f"none of the {found.compared:,} printed {values} differs" if found.compared > 1 else f"the printed {only} is equal"
        return f"{which} in the digits shown"
    named = [one for one in found.last if not _is_said(one, effect.loss)]
    shown = [f"{plain(one.name, 40)} {plain(one.a, 24)} and {plain(one.b, 24)}" for one in reversed(named)][:_NAMED]
    if not shown:
        if found.compared == 1:
            return "the printed metric differs in the digits shown"
        verb = "differs" if found.differing == 1 else "differ"
        return f"{found.differing:,} of {found.compared:,} printed metrics {verb} in the digits shown"
    return f"printed {', '.join(shown)}"


def _is_said(metric: PrintedMetric, loss: Loss | None) -> bool:
    """Whether a printed metric is the loss that is said anyway."""
    if loss is None or isinstance(loss.a, str) or isinstance(loss.b, str) or "%" in metric.a:
        return False
    try:
        values = float(metric.a), float(metric.b)
    except ValueError:
        return False
    return all(math.isclose(value, known, rel_tol=_CLOSE) for value, known in zip(values, (loss.a, loss.b), strict=True))


def since(effect: Effect | None) -> str:
    """`from step 3 on`; nothing where it is not known, or no step differs."""
    steps = [step for step in (effect.loss_from, effect.parameters_from) if step is not None] if effect is not None else []
    return f" from step {min(steps)} on" if steps else ""
