"""Runs two programs and holds the values of their names against each other; gives them equal starting points if that is asked for."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import auditor
from auditor.launch import nothing_recorded, outcome
from auditor.mapping import mapping_of
from auditor.matching import MatchResult, matched
from auditor.pipeline.folders import folder_for
from auditor.pipeline.provenance import provenance_of, revision_of
from auditor.pipeline.reruns import Reruns, Silent
from auditor.pipeline.validation import check_script
from auditor.plan import Plan
from auditor.results import Audit, Reason, RunOutcome, Verdict
from auditor.trace.names import Series, named_values
from auditor.trace.reader import Trace

_VERDICTS: dict[str, Verdict] = {"agree": "no-divergence-seen", "differ": "diverged", "inconclusive": "inconclusive"}
#: Lines before and behind that of a name that differs.
_AROUND = 3


def match_scripts(
    a: Plan, b: Plan, keep: Path | None = None, screen: Any = None, mapping: Sequence[str] = (), copy_initial_weights: bool = False
) -> Audit:  # fmt: skip
    """Run two programs and compare the values that they give to names.

    `mapping`: counterparts, as `a=b` or YAML files; `copy_initial_weights`: give the second program the first one's weights.
    Raises `AuditError`.
    """
    check_script(a)
    check_script(b)
    counterparts = mapping_of(mapping)
    runs, revision = Reruns(folder_for(keep, a), screen or Silent()), revision_of(a)
    result = match_programs(a, b, runs, counterparts, copy_initial_weights)
    result.provenance = provenance_of(runs.made[0], revision) if runs.made else None
    return result


def match_programs(a: Plan, b: Plan, runs: Reruns, mapping: Mapping[str, str], share: bool) -> Audit:
    """Run two programs and compare the values that they give to names; `share`: run the second again with the first one's weights.

    Raises `AuditError` if a run could not be made.
    """
    first = runs.one(a.with_names(first_whole=share), "a", "program")
    second = runs.one(b.with_names(), "b", "program")
    for run in (first, second):
        nothing = nothing_recorded(run)
        if nothing is not None:
            return _audit(
                a, b, runs, MatchResult(), [], Reason.of("nothing-of-run", run=run.id, slug=nothing.slug, message=nothing.message)
            )
    ours, theirs = named_values(first), named_values(second)
    found = matched(ours, theirs, mapping)
    notes: list[Reason] = []
    if share:
        pairs = _starting_points(found, ours, theirs, mapping)
        if pairs:
            second = runs.one(b.with_names(share=(str(first.path), pairs)), "b-shared", "program")
            found = matched(ours, named_values(second), mapping)
            notes += _said_of_sharing(second)
        else:
            notes.append(Reason.of("nothing-shared"))
    notes += [
        Reason.of("program-ended", run=run.id, error=run.meta.get("error"), status=run.meta.get("exit"))
        for run in (first, second) if run.meta.get("exit")
    ]  # fmt: skip
    ended = next((run for run in (first, second) if run.meta.get("exit")), None)
    unsure: Reason | None = None
    if found.answer == "agree" and ended is not None and first.meta.get("exit") != second.meta.get("exit"):
        found = replace(found, answer="inconclusive")
        error, status = ended.meta.get("error"), ended.meta.get("exit")
        unsure = Reason.of("one-program-ended", run=ended.id, error=error, status=status, names=len(found.pairs))
    result = _audit(a, b, runs, found, notes, unsure)
    for pair in result.names:
        if not pair.agrees and pair.follows is None:
            pair.around_a, pair.around_b = _around(a, pair.file_a, pair.line_a), _around(b, pair.file_b, pair.line_b)
    return result


def match(f: Callable[..., object], g: Callable[..., object], *args: Any, map: Sequence[str] = (), **kwargs: Any) -> Audit:  # noqa: A002
    """Call two functions or modules with copies of the same arguments, and compare the values that they give to names.

    What they return is compared too, as `return`, and the parameters of a module, as `module.weight`. Both begin with the random streams of
    torch, NumPy and `random` as they are now, which are left as the second call leaves them. `map`: counterparts, as `a=b` or YAML files.
    What a call raises is raised. For scripts there is `repro-audit match`.
    """
    from auditor.record.probes.named_values import collected

    counterparts = mapping_of(map)
    series = []
    for call in (f, g):
        own, named = copy.deepcopy((args, kwargs))
        with _as_random_as_now(put_back=call is f), collected() as got:
            got.note("module", getattr(call, "__self__", call))
            got.note("return", call(*own, **named))
        series.append(got.series())
    found = matched(series[0], series[1], counterparts)
    names = [getattr(call, "__name__", type(call).__name__) for call in (f, g)]
    here = Path.cwd()
    for pair in found.pairs:
        pair.file_a, pair.file_b = (_within(here, file) for file in (pair.file_a, pair.file_b))
    verdict = _VERDICTS[found.answer]
    return Audit(
        verdict=verdict, script=names, runs=[RunOutcome(id=name, role="program", exit=0) for name in names], names=found.pairs,
        unaligned=found.unaligned, reason=found.why, version=auditor.__version__,
    )  # fmt: skip


def _within(folder: Path, file: str | None) -> str | None:
    """A file as a path from a folder that it lies in, else as it is."""
    if file is None or not Path(file).is_relative_to(folder):
        return file
    return str(Path(file).relative_to(folder))


@contextmanager
def _as_random_as_now(put_back: bool) -> Iterator[None]:
    """Put the random streams back afterwards to what they are now; only of libraries that the caller has imported."""
    import random

    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    states = random.getstate(), numpy.random.get_state() if numpy else None, torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        if put_back:
            random.setstate(states[0])
            if numpy:
                numpy.random.set_state(states[1])
            if torch:
                torch.set_rng_state(states[2])


def _audit(a: Plan, b: Plan, runs: Reruns, found: MatchResult, notes: Sequence[Reason], reason: Reason | None) -> Audit:
    verdict = _VERDICTS[found.answer]
    return Audit(
        verdict=verdict, script=[*a.script, *b.script], runs=[outcome(run) for run in runs.made], names=found.pairs,
        unaligned=found.unaligned, reason=reason or found.why, notes=[*notes, *runs.notes],
        version=auditor.__version__,
    )  # fmt: skip


def _starting_points(
    found: MatchResult, ours: Sequence[Series], theirs: Sequence[Series], mapping: Mapping[str, str]
) -> list[tuple[str, str]]:  # fmt: skip
    """What the programs begin with: what the user says, and weights, which are parameters or have gradients in one of them."""
    weights = {one.name for one in (*ours, *theirs) if one.kind == "parameter"}
    weights |= {one.name.removesuffix(".grad") for one in (*ours, *theirs) if one.kind == "gradient"}
    sizes = [{one.name: one.shape[0] for one in reversed(some)} for some in (ours, theirs)]
    aligned = [(pair.a, pair.b) for pair in found.pairs if pair.a in weights or pair.b in weights]
    chosen = dict.fromkeys([*mapping.items(), *aligned])
    return [(a, b) for a, b in chosen if a in sizes[0] and b in sizes[1] and not (a.endswith(".grad") or b.endswith(".grad"))]


def _said_of_sharing(run: Trace) -> list[Reason]:
    """What was copied into the second program, and what could not be."""
    events = [event for lane in run.lanes.values() for event in lane.events_of("shared-start")]
    copied = [event for event in events if not event.get("why")]
    failed = [event for event in events if event.get("why")]
    said: list[Reason] = []
    if copied:
        said.append(Reason.of("first-values-given", a=[event.get("a") for event in copied], b=[event.get("b") for event in copied]))
    if failed:
        said.append(Reason.of("not-given", names=[event.get("b") for event in failed], why=[event["why"] for event in failed]))
    return said


def _around(plan: Plan, file: str | None, line: int | None) -> list[tuple[int, str]]:
    """The lines of a file around one of them; none if it cannot be read."""
    if file is None or line is None:
        return []
    try:
        text = Path(plan.cwd, file).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    first = max(line - _AROUND, 1)
    return list(enumerate(text[first - 1 : line + _AROUND], first))
