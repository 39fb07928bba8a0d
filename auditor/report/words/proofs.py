"""The proof of a cause in words: what its runs were made with, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.report.words.factors import how_pinned, how_varied
from auditor.report.words.runs import run_names
from auditor.report.words.text import counted, plain
from auditor.results import Audit, Cause, RunOutcome


def proof(cause: Cause, audit: Audit, named: bool = True) -> str:
    """What the runs that prove a cause were made with, and whether they agree; for one that is not proved what was tried; `named`: which.

    The runs of a proof are of these sorts, told by what was pinned and varied in them: controls; those between which the difference was
    seen, if these are no controls, because another cause hid it; those in which the factor was pinned, and the difference was gone;
    and those in which it was left free or varied, and the difference was there again.
    """
    runs = {run.id: run for run in audit.runs}
    if not cause.proved:
        return f"tried in {_some(cause.proof, named)}" if cause.proof else ""
    made = [runs[name] for name in cause.proof if name in runs]
    if len(made) < len(cause.proof) or not made:
        return f"by {_some(cause.proof, named)}" if cause.proof else "its runs are not in this audit"
    base = next((run.id for run in made if run.role in ("control", "kept") and not run.varied), None)
    tried: dict[tuple[frozenset[str], frozenset[str]], list[RunOutcome]] = {}
    for run in made:
        if run.role not in ("control", "kept") or run.varied:
            tried.setdefault((frozenset(run.pinned), frozenset(run.varied)), []).append(run)
    groups = list(tried.values())
    if sum(cause.factor in group[0].varied for group in groups) > 1:
        groups = [group for group in groups if not _among(group, cause.between)]
    clauses = [_clause(cause, group, base, audit, named) for group in groups]
    if not clauses or not all(sentence for _, sentence in clauses):
        return f"by {_some(cause.proof, named)}"
    return "; ".join(sentence for _, sentence in sorted(clauses, key=lambda clause: clause[0]))


def _among(group: Sequence[RunOutcome], runs: Sequence[str]) -> bool:
    return {run.id for run in group} <= set(runs)


def _some(ids: Sequence[str], named: bool) -> str:
    return run_names(ids) if named else counted(len(ids), "run")


def _clause(cause: Cause, group: list[RunOutcome], base: str | None, audit: Audit, named: bool) -> tuple[int, str]:
    """`with hash-seed pinned, pin-1 and pin-2 agree`, after its place in a proof; nothing where one run alone says nothing."""
    run, one = group[0], len(group) == 1
    ids = run_names(run.id for run in group) if named else counted(len(group), "rerun")
    if run.varied:
        than, differs = plain(base or "the control runs") if named else "the control runs", cause.factor in run.varied
        verb = ("differs" if one else "differ") + " from" if differs else ("agrees" if one else "agree") + " with"
        return (1 if differs else 2), f"with {how_varied(run, audit.search)}, {ids} {verb} {than}"
    still = f"with {how_pinned(run, audit.search)}, {ids}"
    if cause.factor in run.pinned:
        return 1, "" if one else f"{still} {_agree(group, cause, audit)}"
    if _among(group, cause.between):
        return 0, f"{still} still differ"
    return 2, f"{still} {'differs from them' if one else 'differ again' if len(group) == 2 else 'do not all agree'}"


def _agree(group: list[RunOutcome], cause: Cause, audit: Audit) -> str:
    """Whether runs in which a factor was pinned agree altogether: behind a difference there may be that of another cause."""
    known = {run.id for run in group}
    behind = any(other is not cause and other.between and known.issuperset(other.between) for other in audit.causes)
    return "no longer differ there" if behind or (audit.search is not None and audit.search.beyond) else "agree"
