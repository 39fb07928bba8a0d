"""Goes on when two runs differ: makes the runs that `experiment` asks for until it knows which factors make them differ.

Every rerun records, beside the ops, the readings of what is another one in each run (`entered`), so that a cause can name its line. A rerun
that is to show that the difference comes back ends shortly behind it and keeps the values there: it is the second look as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from auditor.compare import Comparison, compare
from auditor.diagnose import CHANCY, NUMERICAL, Suspicion, entered_at, entries_of, suspicion
from auditor.experiment import Found, Seen, Trial, Wanted, chance_of_luck, runs_needed, search, search_varied
from auditor.experiment import Search as State
from auditor.factors import Factor, plan_with
from auditor.launch import Snapshot, moved, outcome, remove, room
from auditor.pipeline.looks import closer, second_look
from auditor.pipeline.reruns import Reruns, Wish
from auditor.pipeline.verdict import ended_otherwise, failed, rate
from auditor.plan import Plan
from auditor.report import counted, listed
from auditor.results import Cause, Divergence, Intermittent, OpLine, Search
from auditor.trace.reader import Trace

#: Order in which factors are suspected where nothing else is known: the commonest first; what changes results last.
_ORDER = (
    "torch-seed", "numpy-seed", "python-seed", "worker-seed", "hash-seed", "leftover-files", "clock", "os-entropy", "process-id",
    "file-order", "uninitialized-memory", "thread-timing", "worker-timing", "address-layout", "environment", "cuda-seed", "kernels",
    "cudnn-benchmark", "tf32", "cpu-isa", "threads",
)  # fmt: skip
#: Trials at most; a search that needs more is told of as unfinished.
_TRIALS = 40
#: Runs that must agree if the difference need not show each time.
_CHANCY_RUNS = 4


class Conclusion(NamedTuple):
    """What a search came to; the comparison is the first one, with what was seen more closely since."""

    comparison: Comparison
    causes: list[Cause]
    search: Search
    notes: list[str]


@dataclass
class _Shown:
    """The difference of a trial, and the run in which its lines are."""

    seen: Seen
    divergence: Divergence
    run: Trace
    comparison: Comparison


@dataclass
class Laboratory:
    """What every rerun of one audit is made with.

    `held` are factors that the user wants held in all runs; `snapshot` is the working directory as it was before the first run, and
    `changed` what the controls left in it.
    """

    plan: Plan
    factors: Mapping[str, Factor]
    runs: Reruns
    controls: list[Trace]
    held: tuple[str, ...] = ()
    snapshot: Snapshot | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    changed: bool = False
    outputs: tuple[str, ...] = ()
    intermittent: Intermittent | None = None
    _shown: list[_Shown] = field(default_factory=list)
    _some: int = 0

    def __post_init__(self) -> None:
        for name, factor in self.factors.items():
            missing = factor.unavailable()
            if missing is not None and name not in self.held:
                self.left_out[name] = missing
        self.available = [name for name in _order(self.factors) if name not in self.left_out and name not in self.held]

    def read(self, file: str) -> str:
        """The text of a file of the user's; empty if it cannot be read."""
        try:
            return Path(self.plan.cwd, file).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""

    def files(self) -> list[str]:
        """The user's files that the controls came by."""
        main = self.controls[0].main
        if main is None:
            return []
        return [row["file"] for row in main.query("SELECT DISTINCT file FROM records WHERE file IS NOT NULL ORDER BY file")]

    def plan_with(self, pinned: Sequence[str] = (), varied: Sequence[str] = ()) -> Plan:
        """The plan with these factors held and varied, beside those that the user wants held; the readings of all others are noted."""
        pinned = [*self.held, *pinned]
        watched = [name for name in self.factors if name not in pinned and name not in varied]
        plan = plan_with(self.plan, self.factors, pinned, varied, watched)
        return plan.with_before(str(self.snapshot.folder), self.outputs) if self.snapshot is not None and self.changed else plan

    def make(
        self, plan: Plan, stem: str, many: int, role: str, why: str, texts: Mapping[str, str] | None = None
    ) -> list[Trace]:  # fmt: skip
        """Several runs of one plan; where the script leaves files behind and may find them, each finds those of the one before.

        `texts`: files of the user's that have another text in these runs.
        """
        names = self._new(stem, many)
        with self._changed(plan, names[0], texts or {}) as (here, in_copy):
            if self.snapshot is None or not self.changed or plan.leftovers:
                here = here.with_patches(*in_copy.items()) if in_copy else here
                return self.runs.several([Wish(here, name, role) for name in names], why)
            top = self.runs.folder / f"{names[0]}.scratch"
            try:
                here = moved(here, Path(plan.cwd), self.snapshot.copy(room(top, Path(plan.cwd)), replaced=in_copy))
                return [trace for name in names for trace in self.runs.several([Wish(here, name, role)], why)]
            finally:
                remove(top)

    @contextmanager
    def _changed(self, plan: Plan, name: str, texts: Mapping[str, str]) -> Iterator[tuple[Plan, dict[str, str]]]:
        """The plan with a copy of the script's folder, if that lies elsewhere; and what else has another text in the working directory."""
        inside = {file: text for file, text in texts.items() if not Path(file).is_absolute()}
        outside = {file: text for file, text in texts.items() if file not in inside}
        if not outside:
            yield plan, inside
            return
        home = Path(plan.cwd, plan.script[0]).parent
        top, before = self.runs.folder / f"{name}-source.scratch", self.runs.folder / f"{name}-source.before"
        try:
            taken = Snapshot.take(home, before, without=(self.runs.folder,))
            replaced = {os.path.relpath(file, home): text for file, text in outside.items()}
            yield moved(plan, home, taken.copy(room(top, home), replaced=replaced)), inside
        finally:
            remove(top)
            remove(before)

    def _new(self, stem: str, many: int) -> list[str]:
        """Names for further runs of a kind: the only one has no number, others go on where the last ended."""
        taken = {trace.id for trace in self.runs.made}
        if many == 1 and stem not in taken and f"{stem}-1" not in taken:
            return [stem]
        first = next(k for k in count(1) if f"{stem}-{k}" not in taken)
        return [f"{stem}-{k}" for k in range(first, first + many)]

    def show(self, comparison: Comparison, a: Trace, b: Trace) -> Seen | None:
        """A difference, as far as the search must know it."""
        divergence = comparison.divergence
        if divergence is None and ended_otherwise(a, b):
            divergence = failed(a, b)
        if divergence is None:
            return None
        suspects = self.suspicion(divergence, a).factors
        places = {one.lane: _place_of(one) for one in (divergence, *comparison.others)}
        origin = divergence.detail.origin
        seen = Seen(divergence.lane, places, origin.name if origin is not None else f"{divergence.file}:{divergence.line}", suspects)
        self._shown.append(_Shown(seen, divergence, a, comparison))
        return seen

    def suspicion(self, divergence: Divergence, run: Trace) -> Suspicion:
        """Which factors a difference points to."""
        return suspicion(divergence, entries_of(run, divergence.lane), self.read)

    def shown(self, seen: Seen) -> _Shown:
        """What stands behind a difference of the search."""
        return next(one for one in self._shown if one.seen is seen)

    def difference_of(self, cause: Cause) -> Divergence | None:
        """The difference that a cause made."""
        return next((one.divergence for one in self._shown if one.divergence.runs == cause.between), None)

    def try_out(self, wanted: Wanted) -> Trial:
        """Make the runs that are wanted, and say what they show."""
        names = [name for name in _order(self.factors) if name in wanted.factors]
        if wanted.purpose == "varies":
            return self._vary(wanted, names)
        plan = self.plan_with(names)
        if wanted.purpose == "fails":
            return self._trial(wanted, self.make(plan, self._stem("try", names), 1, "experiment", wanted.why), None)
        if wanted.purpose == "returns":
            freed = [name for name in self.available if name not in wanted.factors and name not in NUMERICAL]
            watch = self.shown(wanted.around).comparison.watch if wanted.around is not None else None
            # what one run leaves for the next it leaves at the end
            plan = plan.with_watch(watch, to_the_end="leftover-files" in freed) if watch is not None else plan
            stem = self._stem("free", freed)
        else:
            stem = self._stem("pin", names)
        traces: list[Trace] = []
        seen: Seen | None = None
        left = self._how_many(wanted)
        while left > 0 and seen is None and not any(map(self._failed, traces)):
            more = self.make(plan, stem, 2 if left > 1 else 1, "experiment", wanted.why)
            traces += more
            left -= len(more)
            for trace in traces[max(len(traces) - len(more), 1) :]:
                seen = seen or self.show(compare(traces[0], trace), traces[0], trace)
        return self._trial(wanted, traces, seen)

    def _vary(self, wanted: Wanted, names: list[str]) -> Trial:
        plan = self.plan_with(varied=names)
        watch = self.shown(wanted.around).comparison.watch if wanted.around is not None else None
        if watch is not None and len(names) == 1:
            plan = plan.with_watch(watch, to_the_end=True)
        traces = self.make(plan, self._stem("vary", names), 1, "experiment", wanted.why)
        if self._failed(traces[0]):
            return self._trial(wanted, traces, None)
        return self._trial(wanted, traces, self.show(compare(self.controls[0], traces[0]), self.controls[0], traces[0]))

    def _trial(self, wanted: Wanted, traces: list[Trace], seen: Seen | None) -> Trial:
        return Trial(wanted.factors, wanted.purpose, seen, any(map(self._failed, traces)), tuple(trace.id for trace in traces))

    def _failed(self, trace: Trace) -> bool:
        return trace.meta.get("exit") not in {control.meta.get("exit") for control in self.controls} and not outcome(trace).stopped

    def _how_many(self, wanted: Wanted) -> int:
        if self.intermittent is not None and self.intermittent.others:
            needed = runs_needed(self.intermittent.apart or 0, self.intermittent.others)
            return max(2, min(needed, len(self.controls)))
        chancy = wanted.purpose == "holds" and len(wanted.factors) == 1 and wanted.factors <= set(CHANCY)
        return _CHANCY_RUNS if chancy else 2

    def _stem(self, what: str, names: Sequence[str]) -> str:
        if len(names) == len(self.available) or (what == "pin" and set(names) >= set(self.available) - set(NUMERICAL)):
            return f"{what}-all"
        if names and len(names) <= 3:
            return f"{what}-{'+'.join(names)}"
        self._some += 1
        return f"{what}-some-{self._some}"

    def enough(self, trial: Trial) -> bool:
        """Whether so many runs that agree are no luck."""
        if self.intermittent is None or not self.intermittent.others:
            return True
        return chance_of_luck(self.intermittent.apart or 0, self.intermittent.others, len(trial.runs) - 1) <= 0.05


def _order(factors: Mapping[str, Factor]) -> list[str]:
    return sorted(factors, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def _place_of(divergence: Divergence) -> int:
    seen = divergence.detail.seen_at
    return seen.index if seen is not None else divergence.index


def explain(lab: Laboratory, comparison: Comparison, look: bool) -> Conclusion:
    """Find out which factors make the controls differ.

    A difference to which nothing that was seen gives a hint is looked at a second time before, if `look` allows it: that tells what was
    read before it, and an origin from a carrier.
    """
    a, b = lab.controls[0], _differing(lab.controls, comparison)
    divergence = comparison.divergence
    looked = False
    if look and comparison.watch is not None and divergence is not None and not lab.suspicion(divergence, a).founded:
        comparison = second_look(lab.plan_with(), comparison, lab.make)
        looked = True
    first_run = lab.runs.made[-1] if looked else a
    lab.intermittent = _intermittent(lab, comparison)
    first = lab.show(comparison, first_run if looked else a, b)
    assert first is not None
    along = {name: factor.along for name, factor in lab.factors.items()}
    state = _go(lab, lambda trials: search(lab.available, first, trials, NUMERICAL, along))
    causes = [_cause(lab, found) for found in state.found]
    if look and not looked and comparison.watch is not None:
        seen_again = [lab.shown(found.returned.seen) for found in state.found if found.returned and found.returned.seen]
        better = next((closer(comparison, one.comparison) for one in seen_again if closer(comparison, one.comparison)), None)
        comparison = better or (second_look(lab.plan_with(), comparison, lab.make) if not seen_again else comparison)
    if comparison.divergence is not None:
        comparison.divergence.intermittent = lab.intermittent or comparison.divergence.intermittent
    return Conclusion(comparison, causes, _search(lab, state, pinned=_all_held(lab, state)), _unfinished(state))


def explain_varied(lab: Laboratory, names: Sequence[str]) -> Conclusion:
    """Vary what should make no difference, and find out which of it does; how numbers are computed is varied by itself.

    Otherwise the rounding of the first product would hide everything behind it.
    """
    causes: list[Cause] = []
    aside: list[str] = []
    unfinished: list[str] = []
    comparison = Comparison(None)
    for numerical in (False, True):
        some = [name for name in names if (name in NUMERICAL) is numerical and name not in lab.left_out]
        state = _go(lab, partial(search_varied, some))
        aside += state.aside
        unfinished += _unfinished(state)
        for found in state.found:
            causes.append(_varied_cause(lab, found))
            if not numerical and comparison.divergence is None:
                comparison = lab.shown(found.seen).comparison
    found_out = _search(lab, State(None, aside=tuple(aside)), varied=[name for name in names if name not in lab.left_out])
    return Conclusion(comparison, causes, found_out, unfinished)


def _differing(controls: list[Trace], comparison: Comparison) -> Trace:
    runs = comparison.divergence.runs if comparison.divergence is not None else []
    return next((trace for trace in controls[1:] if trace.id in runs), controls[1])


def _intermittent(lab: Laboratory, comparison: Comparison) -> Intermittent | None:
    free = [trace for trace in lab.runs.made if trace.meta.get("role") in ("control", "look")]
    return rate(free, comparison.divergence.lane) if comparison.divergence is not None else None


def _go(lab: Laboratory, step: Callable[[list[Trial]], State]) -> State:
    """Make what a search wants until it wants no more."""
    trials: list[Trial] = []
    while True:
        state: State = step(trials)
        if state.wanted is None or len(trials) >= _TRIALS:
            return state
        trials.append(lab.try_out(state.wanted))


def _all_held(lab: Laboratory, state: State) -> list[str]:
    """What "all" was: without what two runs have in common anyway, unless that was needed or did not help."""
    needed = state.beyond is not None or any(found.factor in NUMERICAL for found in state.found)
    return [name for name in lab.available if name not in state.aside and (needed or name not in NUMERICAL)]


def _unfinished(state: State) -> list[str]:
    return [] if state.wanted is None else [f"the search for causes was given up after {_TRIALS} trials: there may be more of them"]


def _search(lab: Laboratory, state: State, pinned: Sequence[str] = (), varied: Sequence[str] = ()) -> Search:
    left_out = dict(lab.left_out) | dict.fromkeys(state.aside, "the script fails with it")
    sentence = ""
    if state.beyond is not None:
        shown = lab.shown(state.beyond).divergence
        where = f"{shown.file}:{shown.line}" if shown.file else f"op {shown.index}"
        sentence = (
            f"what is left, first at {where} ({shown.kind}), is what they cannot hold: a race between threads of a library, a service that "
            "is asked, files outside the working directory, or a generator of a library's own"
        )
    return Search(pinned=list(pinned), varied=list(varied), left_out=left_out, beyond=state.beyond is not None, sentence=sentence)


def _cause(lab: Laboratory, found: Found) -> Cause:
    """A factor that was found, with its line and its proof."""
    factor = lab.factors[found.factor]
    original = lab.shown(found.seen)
    shown = lab.shown(found.returned.seen) if found.returned is not None and found.returned.seen is not None else original
    entries = entries_of(shown.run, shown.divergence.lane)
    place, doing = entered_at(found.factor, shown.divergence, entries, lab.read, lab.files())
    enough = lab.enough(found.held)
    proved = found.returned is not None and enough
    said = f"{doing}; {factor.why}"
    if found.beside:
        said += f"; {listed(found.beside)} {'hold' if len(found.beside) > 1 else 'holds'} the same still"
    if not enough and lab.intermittent is not None:
        needed = runs_needed(lab.intermittent.apart or 0, lab.intermittent.others or 1)
        said += f"; {counted(len(found.held.runs), 'run')} that agree may be luck at this rate: --runs {needed} would tell"
    elif found.returned is None:
        said += "; with all other factors held still the runs agree as well, so that something else holds the same still"
    return Cause(
        factor=found.factor, proved=proved, kind=original.divergence.kind, grade="numerical" if factor.numerical else "logical",
        message=said, fix=factor.remedy, between=list(original.divergence.runs), seen_at=_seen_at(original.divergence),
        proof=[*original.divergence.runs, *found.held.runs, *(found.returned.runs if found.returned else ())],
        file=place.file, line=place.line, function=place.function, code=place.code,
    )  # fmt: skip


def _varied_cause(lab: Laboratory, found: Found) -> Cause:
    factor = lab.factors[found.factor]
    shown = lab.shown(found.seen)
    place, doing = entered_at(found.factor, shown.divergence, entries_of(shown.run, shown.divergence.lane), lab.read, lab.files())
    others = found.returned.runs if found.returned is not None else ()
    size = _size(lab, found) if factor.numerical else ""
    return Cause(
        factor=found.factor, proved=True, kind=shown.divergence.kind, grade="numerical" if factor.numerical else "logical",
        message=size or f"{doing}; {factor.why}", fix=factor.remedy, between=list(shown.divergence.runs),
        seen_at=_seen_at(shown.divergence), proof=[lab.controls[0].id, *found.held.runs, *others],
        file=place.file, line=place.line, function=place.function, code=place.code,
    )  # fmt: skip


def _size(lab: Laboratory, found: Found) -> str:
    """How large a numerical difference is: at the op that shows it first, and in the last loss."""
    shown = lab.shown(found.seen)
    divergence = shown.divergence
    watch = shown.comparison.watch
    said = f"another choice changes results from op {divergence.index:,} ({divergence.op}) on"
    if watch is not None:
        looked = next((trace for trace in lab.runs.made if trace.meta.get("role") == "look" and trace.id.startswith("look-base")), None)
        if looked is None:
            (looked,) = lab.make(lab.plan_with().with_watch(watch), "look-base", 1, "look", "how large is the difference")
        varied = next(trace for trace in lab.runs.made if trace.id == found.held.runs[0])
        closely = compare(looked, varied).divergence
        evidence = closely.detail.evidence if closely is not None else None
        sizes = [one.relative for one in evidence.outputs if one.relative is not None] if evidence is not None else []
        if sizes:
            said += f", there by a relative {max(sizes):.1g}"
    losses = [_last_loss(lab.controls[0]), _last_loss(next(t for t in lab.runs.made if t.id == found.held.runs[0]))]
    if losses[0] is not None and losses[1] is not None:
        said += f"; the last loss is {losses[0]:.9g} and {losses[1]:.9g}" if losses[0] != losses[1] else "; the last loss is the same"
    return said


def _last_loss(run: Trace) -> float | None:
    losses = [event["loss"] for event in run.main.events_of("step") if event.get("loss") is not None] if run.main is not None else []
    return float(losses[-1]) if losses else None


def _seen_at(divergence: Divergence) -> OpLine:
    if divergence.detail.seen_at is not None:
        return divergence.detail.seen_at
    return OpLine(
        index=divergence.index, op=divergence.op, phase=divergence.phase, step=divergence.step, differs=True, file=divergence.file,
        line=divergence.line, function=divergence.function, code=divergence.code,
    )  # fmt: skip
