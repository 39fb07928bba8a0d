"""Two programs' named values -> which names agree, to how many digits, and how the others differ. Pure: reads values and starts nothing.

**Which names are counterparts.** Names are compared first, then values: see `alignment`. An ambiguous name is reported and left alone,
because a wrong pair is a false alarm. Occurrences correspond one to one, or by step where one program has more of them.

**What rounding explains.** Two correct programs in float32 and float64 differ from the first product on, and a chaotic training drives them
apart for good after some hundred steps. No fixed threshold tells that from a fault; the way in which an error is introduced does. Rounding
starts small: the result of an accumulation of length L has a relative error of about sqrt(L) u (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 3.1; for the root, Higham and Mary, 2019). Here u is the unit roundoff of the coarsest dtype that either program
has used so far, and L at most the size of the largest array so far. From there the error is amplified: linearly where errors add up, by a
constant factor per step where the training is chaotic, and each time by a factor that the conditioning of the problem bounds. A fault is
large at once: 1e-7 becomes 1e-2 from one name to the next. So values are judged in order of execution, and rounding explains an error of at
most 4 sqrt(L) u, or of at most 30 times the largest error explained before it.

Five kinds of values need a rule of their own:

* A value u times smaller than what it was computed from is left by cancellation and has no digits to compare. A mask, a fill and
  uninitialized memory do not count as such an input: see `masks`.
* A sum that has come near to zero is compared with the size that it had.
* Whole numbers and fractions of a count may differ by one where two values are nearly equal (an argmax, an accuracy), if anything before
  them was rounded. Where a function has a kink, such as ReLU at zero, a few elements of a gradient may differ for one step: see
  `discontinuities`.
* A parameter on which the loss does not depend (the bias of keys in an attention, a bias in front of a normalization) has a gradient of
  rounding errors alone, by which Adam moves it at random: see `random_gradients`.
* Errors above 1 % that grew from rounding are drift. The programs agree, and the answer names the step from which on they cannot be
  compared.

A fault in float32 that changes values by less than 1e-5 at first and then grows no faster than rounding cannot be seen here. Updates show
more (see `early_updates`): a weight is known to its last digit, and so is its change.

**What propagates.** The first name that differs is an origin. For the later ones see `propagation`.

`bench/matching.py` changes each of the numbers in these modules and shows which pairs of programs then get a wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditor.matching.alignment import alignment
from auditor.matching.differences import difference_of, find_fault_in_updates, find_rule_in_noise
from auditor.matching.errors import ErrorHistory
from auditor.matching.evidence import computed, representation_differences
from auditor.matching.lists import with_lists_joined
from auditor.matching.propagation import followed
from auditor.matching.result import MatchResult, name_pair
from auditor.matching.rounding import judged
from auditor.matching.values import Values
from auditor.matching.verdict import answer_of

__all__ = ["MatchResult", "Values", "matched"]


def matched(a: Sequence[Values], b: Sequence[Values], mapping: Mapping[str, str] | None = None) -> MatchResult:
    """Which named values of two programs agree, and how the others differ; `mapping` has names of the first with those of the second."""
    mapping = mapping or {}
    a, b = with_lists_joined(a, b, mapping.keys()), with_lists_joined(b, a, mapping.values())
    found = alignment(a, b, mapping)
    histories = judged(found.pairs, a, b)
    for one in histories:
        find_fault_in_updates(one)
        find_rule_in_noise(one)
    differing = sorted((one for one in histories if one.first is not None), key=lambda one: one.pair.position(one.first or 0))
    differences = [difference_of(one, histories) for one in differing]
    layouts = representation_differences(differing, differences, histories)
    kept = [one for one in differences if id(one.pair) not in layouts]
    causes = {id(one.pair): cause for one, cause in zip(kept, followed(kept), strict=True)}
    by_pair = {id(one.pair): one for one in differences}
    order = {id(one.pair): n for n, one in enumerate(kept)}

    def place(one: ErrorHistory) -> tuple[int, int]:
        differs = order.get(id(one.pair))
        return (one.pair.position(kept[differs].first), 0) if differs is not None else (one.pair.position(0), 1)

    histories.sort(key=place)
    pairs = [name_pair(one, by_pair.get(id(one.pair)), causes.get(id(one.pair)), id(one.pair) in layouts) for one in histories]
    answer, why = answer_of(pairs, found, (a, b), any(computed(one) for one in histories))
    return MatchResult(pairs, found.alone, answer, why)
