"""The type of a report, and the words that all reports use for the same thing.

A report is given an audit and a text stream and nothing else, for ever: its options belong to the report itself. What
comes from the user (code, paths, values, messages) goes through `plain`; each report then escapes it for its format.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from auditor.report.words.programs import is_match
from auditor.report.words.reasons import sentence_of, text_of
from auditor.report.words.text import contrasted, counted, listed, op_name, path, percent, place, plain, verbatim
from auditor.results import (
    Audit,
    Cause,
    Difference,
    Divergence,
    Finding,
    Intermittent,
    Kind,
    OpLine,
    Patch,
    Reach,
    RunOutcome,
    Search,
    Verdict,
)


@dataclass(frozen=True)
class Report:
    """One way to show an audit. `suffix` is what the names of its files end with."""

    name: str
    why: str
    suffix: str
    render: Callable[[Audit, TextIO], None]


LABELS: dict[Verdict, str] = {
    "diverged": "DIVERGED",
    "no-divergence-seen": "NO DIVERGENCE SEEN",
    "inconclusive": "INCONCLUSIVE",
}

#: What a kind of divergence means, as half a sentence.
MEANINGS: dict[Kind, str] = {
    "draw": "the runs draw different random numbers",
    "kernel": "same op, equal inputs, different results",
    "kernel-or-hidden-write": "same op, different results; whether its inputs are equal was not recorded",
    "uninitialized": "uninitialized memory was read",
    "data": "the input data differ",
    "data-order": "same data in a different order",
    "hidden-write": "a tensor was changed by no recorded op",
    "outside-torch": "code outside PyTorch computed different results",
    "argument": "an op was given a different number or flag",
    "structure": "the runs execute different ops",
    "arithmetic": "a result exceeds its error bound",
    "failed": "one run stopped with an error, the other did not",
}

#: What a difference reaches, in words.
REACHED: dict[Reach, str] = {
    "loss": "the loss", "gradients": "gradients", "parameters": "parameters", "optimizer-state": "optimizer state",
    "saved-files": "saved files", "collective": "a collective", "number": "a number that the script reads, such as one that it prints",
    "nothing": "nothing else",
}  # fmt: skip
#: The title of differences that reach no part of the training.
SIDE = "Side differences (they do not reach the training; --strict counts them)"

#: Most characters of a sentence that is made of many parts.
LONG = 2_000

#: The title of what changes only how results are rounded.
SENSITIVE = "Rounding changes only where these are varied"

#: The title of what would be on a GPU, and what it is worth.
FORECAST, FORETOLD = "CUDA forecast", "from PyTorch's documentation of these ops; not observed"
#: From here on a number stands for infinity.
HUGE = 1e300

_UNSEEN = "The control runs agree: unchanged runs on this machine do not show the difference. On another machine it may appear."
#: Most factors that are named where a run is described, and most that are named as those that were not in it.
_NAMED, _MISSING = 3, 4
#: Most messages of one rule in a forecast, and most places of each.
_SAID, _PLACES = 3, 3
#: Most runs that are shown one by one, and most rows in which more of them are.
_SINGLY, _ROWS = 8, 16
#: Length of a run's name without its number from which on it is not said twice.
_STEM = len("control-")


def label(audit: Audit) -> str:
    """The verdict in a word or two."""
    if is_match(audit):
        return {"diverged": "DIFFER", "no-divergence-seen": "AGREE", "inconclusive": "INCONCLUSIVE"}[audit.verdict]
    return LABELS[audit.verdict]


def is_trial(run: RunOutcome) -> bool:
    """Whether it is a run with something varied, made because the controls agree."""
    return run.role not in ("control", "kept") and bool(run.varied)


def agreement(audit: Audit) -> str:
    """In how many runs no divergence was seen; not counted are those that only searched."""
    searched = audit.search is not None and any(run.role == "control" for run in audit.runs)
    runs = [run for run in audit.runs if run.role not in ("look", "check", "device", *(["experiment"] if searched else []))]
    steps = max((run.steps for run in runs), default=0)
    over = f" and {counted(steps, 'step')}" if steps else ""
    said = f"{counted(len(runs), 'run')} agree in all {counted(audit.coverage.ops, 'op')}{over} compared"
    compared = list(dict.fromkeys(name for one in audit.devices for name in one.devices))
    said += f"; no op exceeds its error bound between {listed(map(plain, compared))}" if compared else ""
    levels = [finding.level for finding in audit.findings if finding.level != "note"]
    found = [counted(levels.count(level), level) for level in dict.fromkeys(sorted(levels))]
    found += [counted(len(audit.side), "side difference")] if audit.side else []
    return f"{said}, but with {listed(found)}." if found else f"{said}."


def because(audit: Audit) -> str:
    """What made the runs differ, for the end of the headline; one cause with its line, where the headline has not named that."""
    explained = audit.explained_by
    if explained is not None:
        at = f" ({place(explained.file, explained.line)})" if explained.file else ""
        return f", because of {plain(explained.rule)}{at}"
    causes = leading(audit)
    proved = [cause for cause in causes if cause.proved]
    factors = {cause.factor for cause in proved}
    rest = [cause for cause in causes if cause.factor not in factors]
    if not causes:
        return "" if audit.search is None else "; no cause was found"
    if not proved:
        return f"; not proved: {names(causes)} may be the cause"
    only, first = proved[0], audit.divergence
    elsewhere = only.file and (first is None or (only.file, only.line) != (first.file, first.line))
    at = place(only.file, only.line) if len(causes) == 1 and elsewhere else ""
    if len(causes) == 1 and only.symptom_of is None and only.because:
        said = f", because {only.because} ({only.factor}{f' at {at}' if at else ''})"
    else:
        said = f", because of {names(proved)}{f', introduced at {at}' if at else ''}"
    if rest:
        said += f"; {names(rest)} may be a cause too"
    return f"{said}; another cause remains that was not found" if audit.search and audit.search.beyond else said


def names(causes: Sequence[Cause]) -> str:
    """The factors of some causes, each once; where one is only a symptom, the rule that says of what."""
    return listed(dict.fromkeys(cause.symptom_of.rule if cause.symptom_of else cause.factor for cause in causes))


def leading(audit: Audit) -> list[Cause]:
    """The causes of what the verdict is about, those that are proved first."""
    aside = {id(cause) for cause in sensitive(audit)}
    return sorted((cause for cause in audit.causes if id(cause) not in aside), key=lambda cause: not cause.proved)


def sensitive(audit: Audit) -> list[Cause]:
    """Factors that change how results are rounded, and only when they are varied: no fault of the script."""
    varied = {run.id for run in audit.runs if is_trial(run)}
    alone = audit.verdict != "diverged"
    return [cause for cause in audit.causes if cause.grade == "numerical" and (alone or varied.intersection(cause.between))]


def reasons(cause: Cause, audit: Audit) -> list[tuple[str, str]]:
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
        return (1 if differs else 2), f"with {in_words(run, audit.search)}, {ids} {verb} {than}"
    still = f"with {_pinned(run, audit.search)}, {ids}"
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


def _pinned(run: RunOutcome, search: Search | None) -> str:
    return f"{_factors(run.pinned, search.pinned if search else [])} pinned"


def in_words(run: RunOutcome, search: Search | None) -> str:
    """`threads alone varied`, `all factors varied and clock pinned`."""
    alone = " alone" if len(run.varied) == 1 and not run.pinned else ""
    still = f" and {_pinned(run, search)}" if run.pinned else ""
    return f"{_factors(run.varied, search.varied if search else [])}{alone} varied{still}"


def _factors(some: Sequence[str], all_: Sequence[str]) -> str:
    """Some factors in few words: `all factors`, `all but threads`, `hash-seed and clock`, `7 of 20 factors`."""
    missing = _missing(some, all_)
    if missing is not None:
        return f"all but {listed(missing)}" if missing else "all factors"
    if len(some) <= _NAMED:
        return listed(some)
    return (
        f"{len(some)} of {len(all_)} factors" if len(all_) > len(some) else listed([*some[: _NAMED - 1], f"{len(some) - _NAMED + 1} more"])
    )


def _missing(some: Sequence[str], all_: Sequence[str]) -> list[str] | None:
    """The few of all factors that are not among some; None if they are more, or if all are so few that all are named."""
    missing = [name for name in all_ if name not in some]
    return missing if len(missing) <= _MISSING and 2 * len(missing) < len(all_) and len(all_) > 2 else None


def held(run: RunOutcome, search: Search | None) -> str:
    """What was pinned and varied in a run: `all pinned but hash-seed`, `threads varied`; nothing for nothing."""
    said = []
    for what, some, all_ in (
        ("pinned", run.pinned, search.pinned if search else []),
        ("varied", run.varied, search.varied if search else []),
    ):
        missing = _missing(some, all_)
        if some and missing is not None:
            said.append(f"all {what} but {listed(missing)}" if missing else f"all {what}")
        elif some:
            said.append(f"{_factors(some, all_)} {what}")
    return ", ".join(said)


def shows_elsewhere(cause: Cause, audit: Audit) -> bool:
    """Whether the op that first shows a cause is known and is not the one that the report is about anyway."""
    seen, first = cause.seen_at, audit.divergence
    return seen is not None and (first is None or (seen.index, seen.op) != (first.index, first.op))


def bits(cause: Cause, audit: Audit) -> list[str]:
    """For a factor that changes how results are rounded: what shows it, and what to do where every bit counts."""
    shown = [": ".join(filter(None, ["proved" if cause.proved else "not proved", proof(cause, audit)]))]
    return [*shown, f"for equal bits: {plain(cause.fix)}"] if cause.fix else shown


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
        said.append(("also" if leading(audit) else "known", f"with {every} pinned, {who} still differ"))
    if search.possible:
        said.append(("possible", plain(sentence_of(search.possible))))
    if not leading(audit) and search.left_out:
        said.append(("left out", left_out(search)))
    return said


def left_out(search: Search) -> str:
    """The factors that took no part and why, those of one reason together."""
    alike: dict[str, list[str]] = {}
    for factor, reason in search.left_out.items():
        alike.setdefault(plain(text_of(reason)), []).append(factor)
    return "; ".join(f"{listed(factors)} ({why})" if why else listed(factors) for why, factors in alike.items())


def patched(patch: Patch, named: bool = False) -> str:
    """What was seen of a patch, and what has become of it; `named`: in which runs."""
    seen = f"run {'twice' if len(patch.runs) == 2 else counted(len(patch.runs), 'time')}" if patch.runs else ""
    which = f" ({run_names(patch.runs)})" if named else ""
    agree = f"{seen}, and the runs agree{which}" if seen else "the runs that tried it are not in this audit"
    if not patch.applied:
        return f"{agree}; --fix --apply applies it to {path(patch.file)}"
    return f"{agree}; applied to {path(patch.file)}" + (f"; the original is kept in {path(patch.backup)}" if patch.backup else "")


def diff_lines(patch: Patch, most: int) -> list[str]:
    """The lines of a patch, as they are but for what cannot be printed; of a long one the first, and how many more there are."""
    lines = [line.removesuffix("\r") for line in patch.diff.removesuffix("\n").split("\n")]
    shown = [verbatim(line) for line in lines[:most]]
    return [*shown, f"... and {counted(len(lines) - most, 'more line')}: --json has all of them"] if len(lines) > most else shown


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
    rounding = [cause for cause in sensitive(audit) if cause.proved]
    changes = "change" if len({cause.factor for cause in rounding}) > 1 else "changes"
    said = [f"Varied: {listed(search.varied)}."]
    if rounding:
        said.append(f"Of these, {names(rounding)} {changes} how results are rounded.")
    if search.rounded:
        said.append(f"Apart from rounding, {'the others' if rounding else 'they'} do not change the results.")
    if search.left_out:
        said.append(f"Not varied: {left_out(search)}.")
    if search.possible:
        said.append(f"{plain(sentence_of(search.possible)).removesuffix('.')}.")
    return " ".join([*said, "Anything else, such as another machine, may still make a difference."])


def is_diff(audit: Audit) -> bool:
    """Whether kept runs were compared; what differs in their environment is then said first."""
    return any(run.role == "kept" for run in audit.runs)


def environment_title(audit: Audit) -> str:
    """How much of the two environments is not the same."""
    whose = listed(run.id for run in audit.runs[:2])
    return f"The environments of {whose} differ in {counted(len(audit.environment), 'fact')}"


def facts(divergence: Divergence) -> list[tuple[str, str]]:
    """What is known of the divergent op in a few words each: (name, fact)."""
    lane = "" if divergence.lane == "main" else f" of lane {plain(divergence.lane)}"
    inside = [f"module {plain(divergence.module)}"] if divergence.module else []
    if divergence.function and divergence.function != "<module>":
        inside.append(f"function {plain(divergence.function)}")
    found = [
        ("op", f"{op_name(divergence.op)} (op {divergence.index}{lane})"),
        ("when", when(divergence)),
        ("in", ", ".join(inside)),
        ("how often", rate(divergence.intermittent) if divergence.intermittent else ""),
        ("reaches", reaching(divergence)),
        ("shared memory", _handed(divergence)),
    ]
    return [(name, fact) for name, fact in found if fact]


def _handed(divergence: Divergence) -> str:
    """The tensors whose memory code that torch does not see was given before the divergence."""
    handed = [(f"{op_name(one.op)} at {place(one.file, one.line)}", one.differs) for one in divergence.detail.handed]
    each = [f"{where} (differs)" if differs else where for where, differs in handed]
    return listed(dict.fromkeys(each)) if each else ""


def reaching(divergence: Divergence) -> str:
    """What a difference reaches, as far as it is known."""
    return listed(REACHED[what] for what in divergence.reaches) if divergence.reaches else ""


def when(event: Divergence | OpLine) -> str:
    """`step 3, backward`; `setup` for what is before the first step and in no phase of it."""
    before = event.phase == "setup" and event.step == 0
    step = [] if event.step is None or before else [f"step {event.step}"]
    return ", ".join([*step, *([plain(event.phase)] if event.phase else [])])


def rate(intermittent: Intermittent) -> str:
    """How often the runs differed, with the interval that holds the rate, and which of them agree."""
    groups = intermittent.groups
    apart, of, low, high = intermittent.apart, intermittent.others, intermittent.low, intermittent.high
    if apart is None or not of:
        alike = [f"{run_names(group)} agree" for group in groups if len(group) > 1]
        alone = [group[0] for group in groups if len(group) == 1]
        said = "; ".join([*alike, *([f"{run_names(alone)} with no other run"] if alone else [])])
        pairs = f"{intermittent.differing} of {counted(intermittent.pairs, 'pair')} of runs differ"
        return f"{pairs}: {said}" if said else pairs
    most = max(groups, key=len, default=[])
    rest = run_names(name for group in groups if group is not most for name in group)
    who = f" ({rest})" if len(groups) > 1 else ""
    than = f" from {plain(most[0])}" if most else ""
    interval = f", 95 % CI {percent(low)}-{percent(high)} %" if low is not None and high is not None else ""
    return f"{apart} of {counted(of, 'run')}{who} diverged{than}: {percent(apart / of)} %{interval}"


def spread(divergence: Divergence) -> str | None:
    """How much of what follows differs too; None if it was not counted."""
    differing, compared = divergence.detail.differing_ops, divergence.detail.compared_ops
    if differing is None or compared is None:
        return None
    of = "all" if differing == compared else f"{differing:,} of the"
    return f"{of} {counted(compared, 'op')} compared from there on differ"


def shown_at(divergence: Divergence) -> str:
    """The op whose tensors and arguments are shown: for a draw or seed the first op that shows it."""
    seen = divergence.detail.seen_at
    return f"op {seen.index if seen else divergence.index}"


def sides(divergence: Divergence) -> list[tuple[str, str, str]]:
    """What is not the same about the two runs' own events there: (what, first run, second run)."""
    a, b = ({**side} for side in (divergence.detail.a, divergence.detail.b))
    if not a and not b:
        return []
    if not a or not b:
        ours, theirs = (op_name(str(side.get("op", ""))) if side else "the run has ended" for side in (a, b))
        return [("op", ours, theirs)]
    for side in (a, b):
        side.pop("digest", None)
        side["line"] = place(side.pop("file", None), side.pop("line", None))
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
    return [(plain(key), *contrasted(a.get(key, ""), b.get(key, ""))) for key in keys]


def others(audit: Audit) -> list[tuple[str, Divergence]]:
    """The other lanes' divergences; lanes that differ first at the same line and op, as workers do, together."""
    found: dict[tuple[object, ...], list[Divergence]] = {}
    for other in audit.others:
        found.setdefault((other.kind, other.file, other.line, other.op, other.step, other.phase), []).append(other)
    return [(listed(other.lane for other in alike), alike[0]) for alike in found.values()]


def most_telling(tensors: list[Difference], most: int) -> list[Difference]:
    """At most so many tensors, those that differ before those that do not; in their own order."""
    chosen = sorted(range(len(tensors)), key=lambda k: not tensors[k].differs)[:most]
    return [tensors[k] for k in sorted(chosen)]


def and_more(tensors: list[Difference], shown: list[Difference]) -> str:
    """What `most_telling` left out."""
    hidden = sum(tensor.differs for tensor in tensors) - sum(tensor.differs for tensor in shown)
    return f"and {len(tensors) - len(shown)} more, {f'{hidden} of which differ' if hidden else 'which are equal'}"


def tensor(difference: Difference) -> str:
    """`float32 [64, 32]`."""
    return f"{plain(difference.dtype)} {difference.shape}"


def elements(difference: Difference) -> str:
    """How many elements differ, or `equal`."""
    if not difference.differs:
        return "equal"
    if not difference.elements:
        return "differs"
    every = difference.elements == difference.of > 1
    return f"all {difference.of:,}" if every else f"{difference.elements:,} of {difference.of:,}"


def number(value: float | None) -> str:
    """Three significant digits; nothing for nothing."""
    return "" if value is None else f"{value:.3g}"


def ulps(value: int | None) -> str:
    """A count of units in the last place, exact while it can be read."""
    return "" if value is None else f"{value:,}" if value < 1_000_000 else f"{value:.1e}"


def remarks(difference: Difference) -> list[str]:
    """What there is to say of a tensor beyond how far it is off."""
    said = ["the same rows in a different order"] if difference.rows_permuted else []
    if difference.never_written:
        said.append("the differing elements were never written: uninitialized memory")
    return [*said, plain(text_of(difference.note))] if difference.note else said


def covered(audit: Audit) -> str:
    """How much was compared, and how many of the ops wrote in place: the harmful ones are among the findings."""
    seen = audit.coverage
    compared = f"{counted(seen.ops, 'op')} compared in {counted(seen.lanes, 'lane')}"
    if not seen.in_place_writes:
        return compared
    return f"{compared}; {counted(seen.in_place_writes, 'in-place write')} in {counted(seen.in_place_lines, 'line')}"


def lost(audit: Audit) -> list[str]:
    """What the recorder knows that it missed, the same in several lanes or runs once."""
    found: dict[str, list[str]] = {}
    for one in audit.coverage.lost:
        times = counted(one.count, "time") if one.count > 1 else ""
        where = [plain(name) for name in (one.lane if one.lane != "main" else None, one.run) if name]
        seen = " in ".join(filter(None, [times, " of ".join(where)]))
        found.setdefault(plain(text_of(one.what)), []).append(seen)
    details = {what: "; ".join(dict.fromkeys(filter(None, seen))) for what, seen in found.items()}
    return [f"{what} ({seen})" if seen else what for what, seen in details.items()]


def not_covered(audit: Audit) -> list[str]:
    """What the recorder knows that it missed, and the factors that took no part."""
    said = lost(audit)
    search = audit.search
    above = audit.verdict == "no-divergence-seen" or "left out" in dict(without_cause(audit))
    if search is not None and search.left_out and not above:
        said.append(f"factors that were {'not varied' if search.varied else 'left free'}: {left_out(search)}")
    return said


def run_names(ids: Iterable[str]) -> str:
    """`pin-1 and pin-2`; three and more in a row are `pin-1 to pin-9`, and what is long is not said twice: `pin-hash-seed-1 and -2`."""
    shown: list[list[str]] = []
    for name in ids:
        stem, number = _numbered(name)
        if shown and number > 0 and shown[-1][-1] == f"{stem}{number - 1}":
            shown[-1].append(name)
        else:
            shown.append([name])
    if len(shown) == 1 and len(shown[0]) == 2:
        return f"{plain(shown[0][0])} and {_short(shown[0][1])}"
    return listed(part for row in shown for part in ([f"{plain(row[0])} to {_short(row[-1])}"] if len(row) > 2 else row))


def _numbered(name: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)(\d{1,9})", name, re.DOTALL)
    return (found[1], int(found[2])) if found else (name, -1)


def _short(name: str) -> str:
    """The name of a run behind another one in a row with it."""
    stem, number = _numbered(name)
    return f"-{number}" if stem.endswith("-") and len(stem) > _STEM else plain(name)


@dataclass(frozen=True)
class Row:
    """Runs that are shown in one line: made alike, ended alike."""

    runs: list[RunOutcome]
    name: str
    how: str

    def span(self, values: Iterable[str]) -> str:
        """`1.2`, or `1.2 to 1.4` where they are not all the same; the values in order of size."""
        known = list(dict.fromkeys(values))
        return known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}" if known else ""

    @property
    def seconds(self) -> str:
        """How long they took."""
        return self.span(f"{seconds:.1f}" for seconds in sorted(run.seconds for run in self.runs if run.seconds is not None))

    @property
    def ops(self) -> str:
        """How many ops they did."""
        return self.span(f"{ops:,}" for ops in sorted(run.ops for run in self.runs))

    @property
    def steps(self) -> str:
        """How many steps they took."""
        return self.span(f"{steps:,}" for steps in sorted(run.steps for run in self.runs))


def run_rows(audit: Audit, most: int = _ROWS) -> tuple[list[Row], int]:
    """The runs as they are shown, and how many are not: many are folded, and those that nothing in the audit names left out first."""
    single = [Row([run], plain(run.id), _made(run, audit.search)) for run in audit.runs]
    if len(audit.runs) <= _SINGLY:
        return single, 0
    alike: dict[tuple[object, ...], list[RunOutcome]] = {}
    for run in audit.runs:
        key = (run.role, run.device, frozenset(run.pinned), frozenset(run.varied), ending(run), run.error)
        alike.setdefault(key, []).append(run)
    rows = [Row(runs, run_names(run.id for run in runs), _made(runs[0], audit.search)) for runs in alike.values()]
    named = _named(audit)
    chosen = sorted(range(len(rows)), key=lambda k: not any(run.role != "experiment" or run.id in named for run in rows[k].runs))[:most]
    return [rows[k] for k in sorted(chosen)], sum(len(row.runs) for k, row in enumerate(rows) if k not in chosen)


def _made(run: RunOutcome, search: Search | None) -> str:
    return ", ".join(filter(None, [plain(run.device) if run.device != "cpu" else "", held(run, search)]))


def _named(audit: Audit) -> set[str]:
    """The runs that something else in the audit speaks of."""
    found = set(audit.divergence.runs) if audit.divergence else set()
    for cause in audit.causes:
        found.update([*cause.proof, *cause.between, *(cause.patch.runs if cause.patch else [])])
    return found


def runs_title(audit: Audit) -> str:
    """`4 runs of train.py --lr 0.1`."""
    script = plain(shlex.join(audit.script))
    return f"{counted(len(audit.runs), 'run')}{f' of {script}' if script else ''}"


@dataclass(frozen=True)
class Foretold:
    """What one rule says of a GPU: the findings of each message, and how many places its further messages have."""

    rule: str
    said: list[tuple[str, list[Finding]]]
    more: int


def explaining(audit: Audit) -> Finding | None:
    """The finding that explains the divergence: it stands before all causes, of which it is none."""
    said = audit.explained_by
    if said is None:
        return None
    return next((one for one in audit.findings if (one.rule, one.file, one.line) == (said.rule, said.file, said.line)), None)


def seen(audit: Audit) -> list[Finding]:
    """The findings on what was in the run."""
    return [finding for finding in audit.findings if not finding.forecast]


def forecast(audit: Audit) -> list[Foretold]:
    """What would be on a GPU, by rule; lines of which the same is to be said together, those of most ops first."""
    rules: dict[str, dict[str, list[Finding]]] = {}
    for finding in audit.findings:
        if finding.forecast:
            rules.setdefault(finding.rule, {}).setdefault(finding.message, []).append(finding)
    told = []
    for rule, messages in rules.items():
        said = sorted(messages.items(), key=lambda item: -sum(finding.count for finding in item[1]))
        told.append(Foretold(rule, said[:_SAID], sum(len(findings) for _, findings in said[_SAID:])))
    return sorted(told, key=lambda one: one.rule)


def places(findings: Sequence[Finding], shown: Callable[[str], str] = str) -> str:
    """Where findings are, a few of them: `train.py:31, train.py:40 and 5 more places`."""
    where = list(dict.fromkeys(shown(place(finding.file, finding.line)) for finding in findings))
    few, more = where[:_PLACES], len(where) - len(where[:_PLACES])
    return listed([*few, counted(more, "more place")] if more else few)


def times(findings: Sequence[Finding]) -> str:
    """In how many steps findings were seen, as a clause; empty for what was seen in one, or not in steps."""
    steps = max((finding.steps for finding in findings), default=0)
    return f" (in {counted(steps, 'step')})" if steps > 1 else ""


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, list[Finding]]]:
    """Findings as they are shown: notes of one rule together, the first with the others; everything else by itself."""
    shown: list[tuple[Finding, list[Finding]]] = []
    notes: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.level != "note":
            shown.append((finding, []))
        elif finding.rule in notes:
            notes[finding.rule].append(finding)
        else:
            shown.append((finding, notes.setdefault(finding.rule, [])))
    return shown


def elsewhere(others: Sequence[Finding]) -> str:
    """Where else a note was found: a few places, and how many more."""
    places = [place(other.file, other.line) for other in others if other.file]
    few, more = places[:4], len(others) - len(places[:4])
    return f"also in {listed([*few, counted(more, 'more place')] if more else few)}" if few else f"and {counted(more, 'more place')}"


def ending(run: RunOutcome) -> str:
    """How a run ended: its exit status, the signal that ended it, or why the auditor did."""
    if run.stopped == "steps":
        return f"stopped after {counted(run.steps, 'step')}"
    if run.stopped:
        return {
            "timeout": "ended by --timeout",
            "stalled": "ended, no progress",
            "interrupted": "interrupted",
            "look": "seen enough",
        }.get(run.stopped, plain(run.stopped))
    if run.exit is None:
        return "exit unknown"
    if run.exit < 0:
        try:
            return f"killed by {signal.Signals(-run.exit).name}"
        except ValueError:
            return f"killed by signal {-run.exit}"
    return f"exit {run.exit}"


def kept_together(audit: Audit) -> str | None:
    """The directory that has all runs under their own ids; None if there is no such directory."""
    folders = {run.path.removesuffix(f"/{run.id}") for run in audit.runs}
    together = len(folders) == 1 and all(run.path.endswith(f"/{run.id}") for run in audit.runs)
    return path(folders.pop()) if together else None
