"""The answer to whether two programs agree, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from auditor.matching.alignment import Alignment
from auditor.matching.lists import stem
from auditor.matching.relation import THEN
from auditor.matching.values import Values
from auditor.results import NamePair, Relation

Answer = Literal["agree", "differ", "inconclusive"]

#: Names that a program has for each one that has a counterpart, from which on agreement proves little.
_MIN_PAIRED = 4
#: Largest number of differences that the sentence names.
_MAX_ORIGINS = 4


def answer_of(
    pairs: Sequence[NamePair], found: Alignment, both: Sequence[Sequence[Values]], was_computed: bool, drifting: Sequence[NamePair]
) -> tuple[Answer, str]:
    """Whether the programs agree, and the sentence that says it.

    `was_computed`: a name that agrees cannot be an input of both; `drifting`: those of the pairs whose values rounding takes apart.
    """
    if not pairs:
        which = "Neither program gave a name to a number" if not any(both) else "No name of one program has a counterpart in the other"
        return "inconclusive", f"{which}."
    names = f"{len(pairs)} name{'s' if len(pairs) > 1 else ''}"
    origins = [pair for pair in pairs if not pair.agrees and pair.follows is None]
    if not origins:
        return _of_agreement(pairs, found, both, was_computed, drifting)
    parts = [_in_words(pair) for pair in origins[:_MAX_ORIGINS]]
    more = f"; and {len(origins) - _MAX_ORIGINS} more" if len(origins) > _MAX_ORIGINS else ""
    agree = sum(pair.agrees for pair in pairs)
    return "differ", f"The programs differ: {'; '.join(parts)}{more}. {agree} of {names} agree."


def _of_agreement(
    pairs: Sequence[NamePair], found: Alignment, both: Sequence[Sequence[Values]], was_computed: bool, drifting: Sequence[NamePair]
) -> tuple[Answer, str]:
    names = f"{len(pairs)} name{'s' if len(pairs) > 1 else ''}"
    alone = len(found.alone)
    telling = [pair for pair in pairs if pair.relation is not None and (pair.occurrences > 1 or pair.digits is not None)]
    some = len({(pair.a.partition("[")[0], pair.file_a) for pair in pairs})
    few = _MIN_PAIRED * some < min(len({(stem(one), one.scope, one.file) for one in each}) for each in both)
    if not was_computed and (few or not telling):
        verb = "agrees" if len(pairs) == 1 else "agree"
        return "inconclusive", f"{names} {verb}, but {alone} {'has' if alone == 1 else 'have'} no counterpart."
    if found.doubtful:
        ours, theirs = found.doubtful[0]
        return "inconclusive", f"{names} agree, but the later `{ours}` does not: use --map '{ours}={theirs}' if it should."
    if drifting:
        first = drifting[0]
        assert first.relation is not None
        return "agree", f"The programs agree: rounding explains all differences in {names}, with {first.relation.meaning} (`{first.a}`)."
    digits = min((pair.digits for pair in pairs if pair.digits is not None), default=None)
    to = f" to {digits:.1f} digits or more" if digits is not None else ""
    return "agree", f"The programs agree: all {names}{to}, and rounding explains what differs."


def _in_words(pair: NamePair) -> str:
    first = pair.first
    assert first is not None
    local, relation = pair.update, pair.relation
    if local is not None and local.kind == "other" and not (local.meaning and relation is not None and relation.kind == "other"):
        local = None
    if local is not None and (relation is None or (relation.kind in ("other", "growing", "factor") and pair.digits is not None)):
        what, of = local, "the update of "
    else:
        what, of = relation or Relation(kind="other", value=None), ""
    number = "" if what.value is None else f" {what.value:.6g}"
    if number == " 1":
        number = f" {what.value:.12g}"
    kinds = {
        "factor": f"by the constant factor{number}", "offset": f"by the offset{number}", "sign": "in its sign",
        "transpose": "by a transpose",
        "permutation": "by the order of its parts", "lag": "by being one occurrence late", "growing": "by ever more",
        "rounding": "by rounding", "equal": "not", "other": "without a simple rule",
    }  # fmt: skip
    said = what.meaning.partition(f", {THEN}")[0]
    since = "" if what.kind == "growing" and "occurrence" in said else f" from step {first.step} on"
    return f"{of}`{pair.a}` differs {kinds[what.kind]}{since}{f' ({said})' if said else ''}"
