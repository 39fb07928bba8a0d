"""Which differences rounding explains, judged in order of execution by how errors start and grow. `auditor.matching` has the reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from auditor.matching.discontinuities import end_of_step, is_tied, is_turned_over, lengths_of, varies
from auditor.matching.errors import ErrorHistory, ExecutionContext, measured
from auditor.matching.random_gradients import RandomGradients, is_gradient
from auditor.matching.values import Aligned, Values, relative_error

#: Factor by which rounding errors are amplified at most from one name to the next; a fault jumps by more.
_AMPLIFICATION = 30.0
#: How often a name may cross a jump, and the ratio of the errors that follow in that step to its own.
_MAX_TURNS, _AFTER_TURN = 3, 3.0
#: Relative error from which on two runs drift.
DRIFT = 0.01
#: Relative error from which on two runs are unrelated: a gradient that has vanished in one of them differs by any factor.
_UNRELATED = 0.3
#: First updates that are searched for faults too small to show in the values.
_EARLY_UPDATES = 16


def judged(pairs: Sequence[Aligned], a: Sequence[Values], b: Sequence[Values]) -> list[ErrorHistory]:
    """Every pair with its errors and whether rounding explains them, judged in the order in which the first program executed them."""
    ours, theirs = ExecutionContext(a), ExecutionContext(b)
    found = [measured(pair, ours, theirs) for pair in pairs]
    events = sorted(
        (int(one.pair.a.order[one.pair.ka[i]]), p, at) for p, one in enumerate(found) for at, i in enumerate(one.looked.tolist())
    )
    lengths = lengths_of(pairs)
    passed = 0.0
    random = RandomGradients()
    turns = [0] * len(found)
    turned = (0.0, 0)
    for order, p, at in events:
        one = found[p]
        error, close = one.errors[at], one.close[at]
        i = int(one.looked[at])
        one.passed[at] = passed
        exact = one.pair.whole_numbers(i)
        allowed = (0.0 if exact else close) + _AMPLIFICATION * passed
        absolute = one.against_recent(at) if not exact and error > allowed else error
        if error <= allowed or (passed >= _UNRELATED and (not exact or varies(one.pair))):
            if not exact and not one.noise[at]:
                passed = max(passed, min(float(error), 1.0))
        elif not exact and absolute <= allowed:
            passed = max(passed, absolute)
        elif error <= turned[0] and order <= turned[1]:
            passed = max(passed, min(float(error), float(one.errors[min(at + 1, len(one.errors) - 1)]), DRIFT))
        elif passed > 0 and not exact and turns[p] < _MAX_TURNS and is_turned_over(one, at, allowed):
            turns[p] += 1
            turned = (_AFTER_TURN * float(error), end_of_step(one, at))
        elif one.noise[at]:
            random.note(one)
        elif passed > 0 and random.decide(one, i, allowed):
            one.random = True
        elif not (passed > 0 and is_tied(one.pair, i, lengths)):
            one.explained[at] = False
        if not exact and passed > 0 and is_gradient(one.pair):
            random.note_elements(one, at)
        one.close[at] = close + 4 * min(passed, DRIFT)
    return found


def early_updates(one: ErrorHistory) -> Iterable[tuple[int, float]]:
    """Early updates that differ by more than rounding, of a name whose previous values agree to their last digit.

    Gives aligned occurrences with what rounding leaves of the update. A change of a weight by a part in a million of it is lost in what
    rounding may do to a value; but the weight is stored to its last digit, and so the update is known to that.
    """
    for i in range(1, min(_EARLY_UPDATES, len(one.pair))):
        at = int(np.searchsorted(one.looked, i))
        if at >= len(one.looked) or one.looked[at] != i or one.errors[at - 1] > 2 * one.roundoff[at] or one.pair.whole_numbers(i):
            return
        found = one.pair.updates(i)
        if found is None or not np.any(found[0]):
            continue
        room = one.close_of_update(i) + 12 * float(one.roundoff[at]) * one.pair.norms(i)[0] / float(np.linalg.norm(found[0]))
        if room < 0.05 and relative_error(*found) > room + _AMPLIFICATION * one.passed[at]:
            yield i, room
