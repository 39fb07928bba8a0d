"""The answer to whether two programs agree, and why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from auditor.matching.alignment import Alignment
from auditor.matching.lists import stem
from auditor.matching.values import Values
from auditor.results import NamePair, Reason

Answer = Literal["agree", "differ", "inconclusive"]

#: Names that a program has for each one that has a counterpart, from which on agreement proves little.
_MIN_PAIRED = 4


def answer_of(
    pairs: Sequence[NamePair], found: Alignment, both: Sequence[Sequence[Values]], was_computed: bool
) -> tuple[Answer, Reason | None]:
    """Whether the programs agree; where that cannot be known, why. `was_computed`: a name that agrees cannot be an input of both."""
    if not pairs:
        return "inconclusive", Reason.of("nothing-named" if not any(both) else "no-counterparts")
    if any(not pair.agrees and pair.follows is None for pair in pairs):
        return "differ", None
    telling = [pair for pair in pairs if pair.relation is not None and (pair.occurrences > 1 or pair.digits is not None)]
    some = len({(pair.a.partition("[")[0], pair.file_a) for pair in pairs})
    few = _MIN_PAIRED * some < min(len({(stem(one), one.scope, one.file) for one in each}) for each in both)
    if not was_computed and (few or not telling):
        return "inconclusive", Reason.of("few-counterparts", names=len(pairs), alone=len(found.alone))
    if found.doubtful:
        ours, theirs = found.doubtful[0]
        return "inconclusive", Reason.of("later-name-differs", names=len(pairs), a=ours, b=theirs)
    return "agree", None
