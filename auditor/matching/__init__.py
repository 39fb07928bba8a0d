"""Two programs' named values -> which names agree, to how many digits, and how the others differ. Pure: reads values and starts nothing.

**What belongs together.** Names first, then numbers: see `alignment`. What could mean two things is said and left alone, since a wrong pair
is a false alarm. Occurrences belong together one for one, or by step where there are more of them in one program.

**What rounding explains.** Two correct programs in float32 and float64 differ from the first product on, and a training that is chaotic
takes them apart for good after some hundred steps: no fixed threshold tells that from a fault. How the error *enters* does. Rounding enters
small: a result of an accumulation of length L is off by some sqrt(L) u relative to its size (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 3.1 and, for the root, Higham and Mary, 2019), u being the unit roundoff of the coarsest dtype that either program
has used by then and L at most the longest array so far. From there it is amplified: linearly where errors add up, by a constant factor a
step where the training is chaotic; each time by a factor that the problem's conditioning bounds. A fault is there at once: 1e-7 becomes
1e-2 from one name to the next. So values are judged in order of execution, and an error is rounding's if it is at most 4 sqrt(L) u, or at
most 30 times the largest error that was explained before it (up to 300 where errors were seen to grow fast from one occurrence of a name to
the next, as a chaotic training makes them). A value that is u times smaller than what it was made of is what cancellation left, and has no
digits to compare (a mask, a fill and memory that nobody wrote are no such size: see `masks`); whole numbers and parts of counts may differ
by one where two values are nearly equal (an argmax, an accuracy), if anything before was rounded; and where a function has a kink, as a
ReLU at zero, a few elements of a gradient may be others for one step. Errors above 1 % that grew so are drift: the programs agree, and the
step from which on they can no longer be compared is said.

A sum that has come near to zero is held against the size that it had; and a parameter on which the loss does not depend (the bias of
keys in an attention, one in front of a normalization) has a gradient that is rounding's alone, by which Adam moves it at random.

What this cannot see: a fault in float32 that changes values by less than a hundred thousandth at first, and grows from there no
faster than rounding would. Updates show more (see `early_updates`): a weight is known to its last digit, and so is its change.

**What follows from what.** The first name that differs is an origin. Of those behind it, see `propagation`.
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

    pairs = [
        name_pair(one, by_pair.get(id(one.pair)), causes.get(id(one.pair)), id(one.pair) in layouts) for one in sorted(histories, key=place)
    ]
    answer, sentence = answer_of(pairs, found, (a, b), any(computed(one) for one in histories))
    return MatchResult(pairs, found.alone, answer, sentence)
