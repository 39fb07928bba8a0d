"""What is said of a cause: why the runs differ, how that is known, and what to change."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.report.words.proofs import proof
from auditor.report.words.reasons import sentence_of
from auditor.report.words.text import listed, plain
from auditor.results import Audit, Cause

#: The title of what changes only how results are rounded.
ROUNDING_TITLE = "Rounding changes only where these are varied"


def factor_names(causes: Sequence[Cause]) -> str:
    """The factors of some causes, each once; where one is only a symptom, the rule that says of what."""
    return listed(dict.fromkeys(cause.symptom_of.rule if cause.symptom_of else cause.factor for cause in causes))


def cause_facts(cause: Cause, audit: Audit) -> list[tuple[str, str]]:
    """What a teammate asks about a cause, each as (name, sentence); of one that is not proved the message says why it is not."""
    change = plain(cause.fix or "")
    if cause.symptom_of is not None:
        change = f"{plain(cause.symptom_of.instead or cause.symptom_of.message)}; pinning {cause.factor} only makes the fault repeat"
    if cause.patch is not None and not cause.patch.applied:
        change = f"{change}, as in the patch below" if change else "as in the patch below"
    shown = proof(cause, audit)
    if cause.proved:
        said = [("why", plain(sentence_of(cause.reasons))), ("proved", shown)]
    elif shown:
        said = [("likely", plain(sentence_of(cause.reasons))), ("not proved", shown)]
    else:
        said = [("not proved", plain(sentence_of(cause.reasons)))]
    return [(name, sentence) for name, sentence in [*said, ("fix", change)] if sentence]


def shows_elsewhere(cause: Cause, audit: Audit) -> bool:
    """Whether the op that first shows a cause is known and is not the one that the report is about anyway."""
    seen, first = cause.seen_at, audit.divergence
    return seen is not None and (first is None or (seen.index, seen.op) != (first.index, first.op))


def rounding_facts(cause: Cause, audit: Audit) -> list[str]:
    """For a factor that changes how results are rounded: what shows it, and what to do where every bit counts."""
    shown = [": ".join(filter(None, ["proved" if cause.proved else "not proved", proof(cause, audit)]))]
    return [*shown, f"for equal bits: {plain(cause.fix)}"] if cause.fix else shown
