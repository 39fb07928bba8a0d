"""Relations over several occurrences: a lag, a sum that is never reset, a ratio or difference that grows."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from auditor.matching.observation import WINDOW, Observation, best_factor, residual
from auditor.results import Reason, Relation


def lagging(observation: Observation) -> Relation | None:
    """The value of the previous (1) or the next (-1) occurrence, from the first difference on."""
    for lag in (1, -1):
        held = moved = 0
        for i, x, y in observation.later():
            if i < max(lag, 0):
                continue  # what the second began with is not known of the first
            before = observation.at(i - lag)
            if before is None or before[0].shape != x.shape:
                if lag < 0 and i == len(observation.pair) - 1:
                    break
                held = -1
                break
            if residual(before[0], y) > observation.close(i):
                held = -1
                break
            held += 1
            moved += residual(before[0], x) > 0
        # of numbers that change but once, what comes behind the change must agree again
        if held >= 2 and moved and _anything_but_a_repetition(observation):
            return Relation(kind="lag", value=float(lag), meaning=[Reason.of("lag-late" if lag > 0 else "lag-early")])
    return None


def _anything_but_a_repetition(observation: Observation) -> bool:
    """Whether the first program's values change where the second's lag."""
    values = [(x, y) for _, x, y in observation.later()]
    before = observation.at(observation.start - 1)
    ours = [x for x, _ in values] + ([before[0]] if before is not None else [])
    return len({one.tobytes() for one in ours}) >= 2


def growing(observation: Observation) -> Relation | None:
    """Running sums, ratios and differences that grow in step with the occurrences."""
    return _accumulated(observation) or _graded(observation)


def _accumulated(observation: Observation) -> Relation | None:
    """The second as the first's values plus a part of its own one before: y[k] = c x[k] + mu y[k - 1]; 1 for a sum that is never reset.

    c is the factor of the first occurrence of all that is known, where nothing has been added up yet. What differs comes back into both
    programs meanwhile, so the residual need not be rounding's; but it must be far below what is left without the sum.
    """
    start = observation.start
    base = start if start == (1 if observation.of == "update" else 0) else start - 1
    first = observation.at(base)
    if first is None or observation.pair.size(start) == 1:
        return None
    factor = best_factor(*first)
    if not math.isfinite(factor) or residual(factor * first[0], first[1]) > observation.close(base):
        return None
    if base < start:
        factor = 1.0
    shares, lefts, sums, withouts = [], [], [], []
    last = first[1]
    for i in range(base + 1, base + 1 + WINDOW):
        found = observation.at(i)
        if found is None or found[0].size != first[0].size:
            break
        x, y = found
        plain = y - factor * x
        share = best_factor(last, plain)
        without = residual(factor * x, y)
        if not math.isfinite(share):
            break
        shares.append(share)
        withouts.append(without)
        lefts.append(residual(factor * x + share * last, y))
        sums.append(residual(factor * x + last, y))
        last = y
    if len(shares) < 2:
        return None
    if lefts[0] <= 4 * observation.close(base + 1) and lefts[0] < 0.05 * withouts[0] and lefts[1] < 0.5 * withouts[1]:
        share = shares[0]  # both were still at the same place when it was made
    elif all(one <= 0.5 * other for one, other in zip(sums[:3], withouts[:3], strict=True)):
        share = 1.0
    else:
        return None
    if share < 0.3:
        return None
    what = "update" if observation.of == "update" else "value"
    behind = observation.pair.occurrence(base) + 2
    if abs(share - 1) < 0.01:
        return Relation(kind="growing", value=1.0, meaning=[Reason.of("accumulates", what=what, occurrence=behind), *_times(factor)])
    return Relation(kind="growing", value=float(f"{share:.3g}"), meaning=[Reason.of("momentum", what=what, share=share), *_times(factor)])


def _times(factor: float) -> list[Reason]:
    return [] if abs(factor - 1) < 1e-3 else [Reason.of("and-scaled", factor=float(f"{factor:.4g}"))]


def _graded(observation: Observation) -> Relation | None:
    """A ratio that grows by the same factor or by the same amount, or a difference that does, from one occurrence to the next."""
    found = list(observation.later())
    if len(found) < 4 or observation.of == "update":
        return None
    ratios: list[float] = []
    room: list[float] = []
    for i, x, y in found:
        factor = best_factor(x, y)
        if not math.isfinite(factor) or factor == 0 or residual(factor * x, y) > observation.close(i):
            ratios = []
            break
        ratios.append(factor)
        room.append(observation.close(i))
    if ratios:
        r = np.array(ratios)
        allowed = max(room)
        quotients, steps = r[1:] / r[:-1], np.diff(r)
        if np.ptp(quotients) <= 2 * allowed and abs(quotients[0] - 1) > 20 * allowed:
            growth = float(f"{np.median(quotients):.6g}")
            return Relation(kind="growing", value=growth, meaning=[Reason.of("ratio-multiplies", factor=growth)])
        if np.ptp(steps) <= 2 * allowed * np.abs(r).max() and abs(steps[0]) > 20 * allowed * np.abs(r).max():
            growth = float(f"{np.median(steps):.6g}")
            return Relation(kind="growing", value=growth, meaning=[Reason.of("ratio-grows", amount=growth)])
    differences = [y - x for _, x, y in found]
    base = differences[1] - differences[0]
    size = float(np.linalg.norm(base))
    allowed = max(observation.close(i) * float(np.linalg.norm(y)) for i, _, y in found)
    if size <= 20 * allowed:
        return None
    if any(float(np.linalg.norm(two - one - base)) > 4 * allowed for one, two in pairwise(differences)):
        return None
    many = observation.pair.size(observation.start)
    growth = float(f"{(float(base.real.ravel()[0]) if many == 1 else size):.6g}")
    return Relation(kind="growing", value=growth, meaning=[Reason.of("difference-grows")])
