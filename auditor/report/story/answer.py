"""The first block of a report, which is the whole answer: verdict, where, why, how that is known, what it does, what to change."""

from __future__ import annotations

import re
from collections.abc import Sequence

from auditor.report.story.rows import Fact
from auditor.report.story.scope import agreement, caveat, without_cause
from auditor.report.story.selection import is_diff, is_trial, leading_causes, rounding_causes
from auditor.report.words import programs
from auditor.report.words.cause_facts import factor_names
from auditor.report.words.divergence_facts import REACHED, step_and_phase
from auditor.report.words.effects import losses, printed, since
from auditor.report.words.factors import how_varied
from auditor.report.words.proofs import proof
from auditor.report.words.reasons import sentence_of, text_of
from auditor.report.words.text import INFINITE, counted, listed, op_name, percent, place, plain
from auditor.results import Audit, Cause, Divergence, Effect, Failure, Intermittent, OpError

#: Reaches that are no part of the training.
_OUTSIDE_TRAINING = {"number", "nothing"}
#: What differs wherever parameters do.
_BEHIND_PARAMETERS = {"loss", "gradients", "parameters", "optimizer-state"}
#: Most facts of two environments that the first block names, and most characters of a fix in it.
_FACTS, _FIX = 2, 160
#: Most causes that the headline gives the reason of.
_CAUSES = 2


def headline(audit: Audit) -> str:
    """What stands behind the verdict's label. It never says that a script is reproducible: nobody can know."""
    if audit.failure is not None:
        return _failing(audit.failure)
    if audit.verdict == "inconclusive":
        reason = plain(text_of(audit.reason) or "The audit gives no reason.")
        return reason[:1].upper() + reason[1:]
    if programs.is_match(audit):
        return programs.matching(audit)
    if audit.verdict == "no-divergence-seen":
        return agreement(audit)
    divergence = audit.divergence
    if divergence is None:
        return f"The runs differ{because(audit)}."
    where = place(divergence.file, divergence.line) if divergence.file else f"op {divergence.index}"
    if divergence.kind == "arithmetic":
        return f"{_off(divergence, audit)} at {where}{_moment(divergence)}."
    return f"{_who(divergence, audit)} at {where}{_moment(divergence)}{because(audit)}."


def _failing(failure: Failure) -> str:
    """How the script failed, after how many steps, and where."""
    after = f" after {counted(failure.steps, 'step')}" if failure.steps else ""
    at = f" ({place(failure.file, failure.line)})" if failure.file else ""
    return f"The script fails in both runs{after}{f': {plain(failure.error)}' if failure.error else ''}{at}."


def because(audit: Audit) -> str:
    """What made the runs differ, for the end of the headline; one cause with its line, where the headline has not named that."""
    explained = audit.explained_by
    if explained is not None:
        rule = audit.rules.get(explained.rule)
        at = place(explained.file, explained.line) if explained.file else ""
        if rule is None:
            return f", because of {plain(explained.rule)}{f' ({at})' if at else ''}"
        return f", because {plain(rule.title)} ({plain(explained.rule)}{f' at {at}' if at else ''})"
    causes = leading_causes(audit)
    proved = [cause for cause in causes if cause.proved]
    factors = {cause.factor for cause in proved}
    rest = [cause for cause in causes if cause.factor not in factors]
    if not causes:
        return "" if audit.search is None else "; no cause was found"
    if not proved:
        return f"; not proved: {factor_names(causes)} may be the cause"
    only, first = proved[0], audit.divergence
    elsewhere = only.file and (first is None or (only.file, only.line) != (first.file, first.line))
    at = f" at {place(only.file, only.line)}" if len(causes) == 1 and elsewhere else ""
    reasons = _reasons(proved, audit)
    if all(reasons.values()):
        said = f", because {_joined([f'{why} ({name}{at})' for name, why in reasons.items()])}"
    else:
        said = f", because of {listed(reasons)}{at}"
    if rest:
        said += f"; {factor_names(rest)} may be a cause too"
    return f"{said}; another cause remains that was not found" if audit.search and audit.search.beyond else said


def _reasons(causes: Sequence[Cause], audit: Audit) -> dict[str, str]:
    """Each cause once, as what is to blame (a factor, or the rule of which it is only a symptom) and why the runs differ then."""
    found: dict[str, str] = {}
    for cause in causes:
        symptom = cause.symptom_of
        rule = audit.rules.get(symptom.rule) if symptom is not None else None
        name = symptom.rule if symptom is not None else cause.factor
        found.setdefault(plain(name), plain(rule.title) if rule is not None else plain(cause.because) if symptom is None else "")
    return found


def _joined(said: Sequence[str]) -> str:
    """The first clauses, and how many more there are: a headline is one sentence."""
    return listed(said) if len(said) <= _CAUSES else listed([*said[:_CAUSES], counted(len(said) - _CAUSES, "more cause")])


def facts(audit: Audit) -> tuple[Fact, ...]:
    """What explains the headline in a few lines."""
    if audit.verdict == "diverged" and not programs.is_match(audit):
        return tuple(_diverged(audit))
    scope = scoped(audit)
    return (*_environment(audit), *([Fact(*scope)] if scope else []))


def scoped(audit: Audit) -> tuple[str, str] | None:
    """How far an agreement goes: what was varied and what came of it."""
    search = audit.search
    if audit.verdict == "inconclusive" and audit.divergence is None and audit.coverage.ops:
        if audit.failure is not None:
            return "compared", f"up to there the runs are equal: {counted(audit.coverage.ops, 'op')}"
        return "compared", f"no divergence in the {counted(audit.coverage.ops, 'op')} that could be compared"
    if audit.verdict != "no-divergence-seen" or programs.is_match(audit):
        return None
    if search is None or not search.varied:
        limits = caveat(audit)
        return ("scope", limits) if limits else None
    sensitive = rounding_causes(audit)
    others = len(set(search.varied) - {cause.factor for cause in sensitive})
    said = [f"{counted(others, 'factor')}, no effect{' beyond rounding' if search.rounded else ''}"] if others else []
    for proved, how in ((True, "rounding only"), (False, "rounding only, not proved")):
        some = [cause for cause in sensitive if cause.proved == proved]
        said += [f"{factor_names(some)}: {how}"] if some else []
    said += [plain(sentence_of(search.possible)).removesuffix(".")] if search.possible else []
    return "varied", f"{'. '.join(said)}. Other machines or versions may still make a difference."


def _diverged(audit: Audit) -> list[Fact]:
    divergence, causes = audit.divergence, leading_causes(audit)
    said = _environment(audit)
    if divergence is not None and caveat(audit):
        said.append(Fact("control runs", "agree: unchanged runs on this machine do not show it; other machines may"))
    explained, unexplained = audit.explained_by, without_cause(audit)
    if explained is not None:
        said.append(Fact("why", plain(explained.message)))
        said += [Fact("fix", plain(explained.instead), "good")] if explained.instead else []
    elif len(causes) == 1:
        said += of_cause(causes[0], audit)
    elif divergence is not None and divergence.kind == "arithmetic" and measured(divergence, audit) is not None:
        said += _error(measured(divergence, audit))
    elif divergence is not None and divergence.reasons:
        said.append(Fact("known", _without_names(divergence, audit)))
    if explained is None and len(causes) > 1:
        proved = sum(cause.proved for cause in causes)
        said.append(Fact("proved", f"{proved} of {len(causes)} causes, by reruns with each factor pinned or varied (below)"))
    said += [Fact(name, sentence, "doubt") for name, sentence in unexplained if name != "left out"]
    effect = _effect(divergence, audit.effect)
    reached = divergence is None or not divergence.reaches or not _OUTSIDE_TRAINING.issuperset(divergence.reaches)
    return [*said, *effect] if reached else [*effect, *said]  # what does not matter to the training is said to at once


def _without_names(divergence: Divergence, audit: Audit) -> str:
    """What is known of a divergence, with runs that the user did not name as the first and the second."""
    said = plain(sentence_of(divergence.reasons))
    ours = {run.id for run in audit.runs if run.role != "kept"}
    for name, word in zip(divergence.runs, ("the first run", "the second run"), strict=False):
        if name in ours:
            said = re.sub(rf"(?<![\w-]){re.escape(plain(name))}(?![\w-])", word, said)
    return said


def of_cause(cause: Cause, audit: Audit) -> list[Fact]:
    """Why a cause makes the runs differ, how that is known, and what to change."""
    shown = proof(cause, audit, named=False)
    if cause.proved:
        said = [Fact("why", plain(sentence_of(cause.reasons))), Fact("proved", shown)]
    else:
        said = [Fact("likely", plain(sentence_of(cause.reasons)), "doubt"), Fact("not proved", shown, "doubt")]
    change = plain(cause.fix or "", _FIX)
    if cause.symptom_of is not None:
        change = f"{plain(cause.symptom_of.instead or cause.symptom_of.message, _FIX)}; pinning {cause.factor} only makes the fault repeat"
    if cause.patch is not None:
        change = "; ".join(filter(None, [change, f"patch {'applied' if cause.patch.applied else 'below'}"]))
    return [fact for fact in [*said, Fact("fix", change, "good")] if fact.text]


def _effect(divergence: Divergence | None, effect: Effect | None) -> list[Fact]:
    """What the difference does to the training, and to the numbers that the script shows, as far as the audit knows."""
    reaches = divergence.reaches if divergence is not None else []
    if reaches and _OUTSIDE_TRAINING.issuperset(reaches):
        said = ["reaches no part of the training" + (f", only {REACHED['number']}" if "number" in reaches else "")]
    else:
        training = [what for what in reaches if what not in _OUTSIDE_TRAINING]  # a number that is printed is no news beside a loss
        step = effect.parameters_from if effect is not None else None
        said = [f"parameters differ from step {step}"] if step is not None else []
        rest = [what for what in training if what not in _BEHIND_PARAMETERS or not said]
        said += [f"reaches {listed(REACHED[what] for what in rest)}{since(effect) if not said else ''}"] if rest else []
    numbers = [losses(effect), printed(effect)] if effect is not None else []
    shown = "; ".join(filter(None, [*said, *numbers]))
    return [Fact("effect", shown)] if shown else []


def _environment(audit: Audit) -> list[Fact]:
    """What differs between the environments of kept runs; between runs of one audit it is in the tail."""
    if not is_diff(audit) or not audit.environment:
        return []
    few = [f"{plain(one.name)} ({_value(one.a)} and {_value(one.b)})" for one in audit.environment[:_FACTS]]
    more = len(audit.environment) - len(few)
    shown = listed([*few, f"{more} more (-v)"] if more > 0 else few)
    return [Fact("environment", f"differs in {counted(len(audit.environment), 'fact')}: {shown}")]


def _value(value: str | None) -> str:
    return "none" if value is None else plain(value, 40)


def _who(divergence: Divergence, audit: Audit) -> str:
    """Which runs diverge, in words, up to where; kept runs have the names that the user gave them."""
    runs = {run.id: run for run in audit.runs}
    made = [runs[name] for name in divergence.runs if name in runs]
    if any(run.role == "kept" for run in made):
        return f"{listed(divergence.runs)} diverge"
    varied = next((run for run in made if is_trial(run)), None)
    if varied is not None:
        return f"With {how_varied(varied, audit.search)}, the runs diverge"
    often = _how_often(divergence.intermittent)
    return f"{often}, first" if often else f"The {'two ' if len(made) < 3 else ''}runs diverge"


def _how_often(often: Intermittent | None) -> str:
    if often is None:
        return ""
    if often.apart is not None and often.others:
        known = often.low is not None and often.high is not None
        interval = f" (95 % CI {percent(often.low or 0)}-{percent(often.high or 0)} %)" if known else ""
        return f"Intermittent: {often.apart} of {counted(often.others, 'run')} {'differs' if often.apart == 1 else 'differ'}{interval}"
    return f"Intermittent: {often.differing} of {counted(often.pairs, 'pair')} of runs {'differs' if often.differing == 1 else 'differ'}"


def measured(divergence: Divergence, audit: Audit) -> OpError | None:
    """The error of the op at which two devices diverge, if the audit has it."""
    found = [*(one.first for one in audit.devices), audit.shadow.first if audit.shadow else None]
    return next((one for one in found if one is not None and (one.index, one.op) == (divergence.index, divergence.op)), None)


def _error(error: OpError | None) -> list[Fact]:
    if error is None or error.added is None or error.added >= INFINITE:
        return []
    said = f"this op introduces an error of {error.added:.1e} relative to its result; the error of its inputs is not counted"
    return [Fact("known", said)]


def _moment(divergence: Divergence) -> str:
    said = [plain(divergence.lane) if divergence.lane != "main" else "", step_and_phase(divergence)]
    return f" ({', '.join(filter(None, said))})" if any(said) else ""


def _off(divergence: Divergence, audit: Audit) -> str:
    """`On cpu:avx2, aten.tanh exceeds its error bound 3.4 times`, as far as the audit says by how much."""
    devices = {run.id: run.device for run in audit.runs}
    off = [devices[name] for name in divergence.runs if name in devices][-1:]
    error = measured(divergence, audit)
    excess = error.excess if error is not None else None
    times = f" {excess:.3g} times" if excess is not None and excess < INFINITE else ""
    name = op_name(divergence.op).removesuffix(".default")
    return f"{f'On {plain(off[0])}, ' if off else ''}{name} exceeds its error bound{times}"
