"""How far a verdict goes: what agrees, what was varied, and what a search for causes did not explain."""

from __future__ import annotations

from auditor.report.story.selection import is_diff, is_trial, leading_causes, rounding_causes
from auditor.report.words.cause_facts import factor_names
from auditor.report.words.coverage_facts import lost
from auditor.report.words.effects import final_loss
from auditor.report.words.factors import left_out
from auditor.report.words.programs import is_match
from auditor.report.words.reasons import sentence_of
from auditor.report.words.text import counted, listed, plain
from auditor.results import Audit, Search

_UNSEEN = "The control runs agree: unchanged runs on this machine do not show the difference. On another machine it may appear."


def agreement(audit: Audit) -> str:
    """In how many runs no divergence was seen; not counted are those that only searched."""
    searched = audit.search is not None and any(run.role == "control" for run in audit.runs)
    runs = [run for run in audit.runs if run.role not in ("look", "check", "device", *(["experiment"] if searched else []))]
    steps = max((run.steps for run in runs), default=0)
    over = f" and {counted(steps, 'step')}" if steps else ""
    said = f"{counted(len(runs), 'run')} agree in all {counted(audit.coverage.ops, 'op')}{over} compared"
    said += f", with a final loss of {loss}" if (loss := final_loss(audit.effect)) else ""
    compared = list(dict.fromkeys(name for one in audit.devices for name in one.devices))
    said += f"; no op exceeds its error bound between {listed(map(plain, compared))}" if compared else ""
    levels = [finding.level for finding in audit.findings if finding.level != "note"]
    found = [counted(levels.count(level), level) for level in dict.fromkeys(sorted(levels))]
    found += [counted(len(audit.side), "side difference")] if audit.side else []
    return f"{said}, but with {listed(found)}." if found else f"{said}."


def without_cause(audit: Audit) -> list[tuple[str, str]]:
    """What is to be said where causes were searched for and do not explain all: (name, sentence)."""
    search = audit.search
    if search is None or audit.verdict != "diverged" or audit.explained_by is not None:
        return []
    said = []
    if search.beyond:
        still = [run.id for run in audit.runs if search.pinned and set(run.pinned) >= set(search.pinned) and not run.varied]
        every = f"all {len(search.pinned)} factors" if len(search.pinned) > 1 else listed(search.pinned or ["all factors"])
        who = "reruns" if len(still) > 1 else "the runs"
        said.append(("also" if leading_causes(audit) else "known", f"with {every} pinned, {who} still differ"))
    if search.possible:
        said.append(("possible", plain(sentence_of(search.possible))))
    if not leading_causes(audit) and search.left_out:
        said.append(("left out", left_out(search)))
    return said


def caveat(audit: Audit) -> str | None:
    """What must be said beside the verdict so that it is not taken for more than it is."""
    if audit.verdict == "inconclusive" and audit.divergence is None and audit.coverage.ops:
        return f"No divergence was seen in the {counted(audit.coverage.ops, 'op')} that could be compared."
    search = audit.search
    if audit.verdict == "diverged" and audit.divergence is not None:
        varied = {run.id for run in audit.runs if is_trial(run)}
        return _UNSEEN if varied.intersection(audit.divergence.runs) else None
    if audit.verdict != "no-divergence-seen" or is_match(audit):
        return None
    if search is not None and search.varied:
        return _varied_and_not(audit, search)
    factors = sorted({factor for run in audit.runs for factor in run.varied})
    if factors:
        return f"Varied: {listed(factors)}. Anything else may still make a difference."
    if is_diff(audit) and audit.environment:
        return "The differences of the environments do not change these ops. Another machine still may."
    if audit.devices:
        return "Nothing else was varied: the hash seed, thread timing or other versions may still change the results."
    return "Nothing was varied: another machine, thread count or hash seed may still change the results."


def _varied_and_not(audit: Audit, search: Search) -> str:
    """What was varied while the controls agree, what came of it, and what was not."""
    rounding = [cause for cause in rounding_causes(audit) if cause.proved]
    changes = "change" if len({cause.factor for cause in rounding}) > 1 else "changes"
    said = [f"Varied: {listed(search.varied)}."]
    if rounding:
        said.append(f"Of these, {factor_names(rounding)} {changes} how results are rounded.")
    if search.rounded:
        said.append(f"Apart from rounding, {'the others' if rounding else 'they'} do not change the results.")
    if search.left_out:
        said.append(f"Not varied: {left_out(search)}.")
    if search.possible:
        said.append(f"{plain(sentence_of(search.possible)).removesuffix('.')}.")
    return " ".join([*said, "Anything else, such as another machine, may still make a difference."])


def not_covered(audit: Audit) -> list[str]:
    """What the recorder knows that it missed, and the factors that took no part."""
    said = lost(audit)
    search = audit.search
    above = audit.verdict == "no-divergence-seen" or "left out" in dict(without_cause(audit))
    if search is not None and search.left_out and not above:
        said.append(f"factors that were {'not varied' if search.varied else 'left free'}: {left_out(search)}")
    return said
