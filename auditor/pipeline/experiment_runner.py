"""Makes the runs that a search asks for, and says what each shows.

Every rerun records, beside the ops, the readings of what is another one in each run (`entered`), so that a cause can name its line. A rerun
that is to show that the difference comes back ends shortly behind it and keeps the values there: it is the closer look as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path

from auditor.compare import Comparison
from auditor.diagnose import Suspicion, entered_at, entries_of, suspicion
from auditor.experiment import Found, Seen, Trial, Wanted, runs_needed
from auditor.factors import Factor, plan_with
from auditor.launch import Snapshot, in_room, moved, outcome, remove
from auditor.pipeline.reruns import Reruns, RunRequest
from auditor.pipeline.verdict import compared, parting, raised_at, rate
from auditor.plan import Plan
from auditor.results import Cause, Divergence, Intermittent, OpLine, Place, Reason
from auditor.source import Flow
from auditor.trace.reader import Trace

#: Runs that must agree if the difference need not show each time.
_RUNS_OF_INTERMITTENT = 4
#: Runs at most that are made to see whether they agree, unless the user asks for many controls.
_MOST_RUNS = 6


@dataclass
class Shown:
    """The difference of a trial, and the run in which its lines are."""

    seen: Seen
    divergence: Divergence
    run: Trace
    comparison: Comparison


@dataclass
class ExperimentRunner:
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
    left_out: dict[str, Reason] = field(default_factory=dict)
    changed: bool = False
    outputs: tuple[str, ...] = ()
    strict: bool = False
    intermittent: Intermittent | None = None
    whole: Sequence[str] = ()
    """All factors that are varied together."""
    _shown: list[Shown] = field(default_factory=list)
    _some: int = 0
    _failures: list[tuple[frozenset[str], Reason]] = field(default_factory=list)

    @cached_property
    def available(self) -> list[str]:
        """Factors that can be held still or varied, in the order in which they are suspected; why others cannot is in `left_out`."""
        for name, factor in self.factors.items():
            missing = factor.unavailable()
            if missing is not None and name not in self.held:
                self.left_out[name] = Reason.of("unavailable", why=missing)
        return [name for name in self.in_order if name not in self.left_out and name not in self.held]

    @cached_property
    def in_order(self) -> list[str]:
        """All factors, in the order in which they are suspected."""
        return sorted(self.factors, key=lambda name: (self.factors[name].order, name))

    @cached_property
    def common(self) -> frozenset[str]:
        """Factors that two runs on one machine have in common anyway."""
        return frozenset(name for name, factor in self.factors.items() if factor.common)

    def read(self, file: str) -> str:
        """The text of a file of the user's; empty if it cannot be read."""
        try:
            return Path(self.plan.cwd, file).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""

    @cached_property
    def flow(self) -> Flow:
        """What arrives where in the user's files."""
        return Flow(self.read)

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
        self, plan: Plan, stem: str, many: int, role: str, question: Reason, texts: Mapping[str, str] | None = None
    ) -> list[Trace]:  # fmt: skip
        """Several runs of one plan; where the script leaves files behind and may find them, each finds those of the one before.

        `texts`: files of the user's that have another text in these runs.
        """
        names = self._new(stem, many)
        with self._changed(plan, names[0], texts or {}) as (here, in_copy):
            if self.snapshot is None or not self.changed or plan.leftovers:
                here = here.with_patches(*in_copy.items()) if in_copy else here
                return self.runs.several([RunRequest(here, name, role) for name in names], question)
            with in_room(self.runs.folder, Path(plan.cwd)) as to:
                here = moved(here, Path(plan.cwd), self.snapshot.copy(to, replaced=in_copy))
                return [trace for name in names for trace in self.runs.several([RunRequest(here, name, role)], question)]

    @contextmanager
    def _changed(self, plan: Plan, name: str, texts: Mapping[str, str]) -> Iterator[tuple[Plan, dict[str, str]]]:
        """The plan with a copy of the script's folder, if that lies elsewhere; and what else has another text in the working directory."""
        inside = {file: text for file, text in texts.items() if not Path(file).is_absolute()}
        outside = {file: text for file, text in texts.items() if file not in inside}
        if not outside:
            yield plan, inside
            return
        home = Path(plan.cwd, plan.script[0]).parent
        before = self.runs.folder / f"{name}-source.before"
        try:
            taken = Snapshot.take(home, before, without=(self.runs.folder,))
            replaced = {os.path.relpath(file, home): text for file, text in outside.items()}
            with in_room(self.runs.folder, home) as to:
                yield moved(plan, home, taken.copy(to, replaced=replaced)), inside
        finally:
            remove(before)

    def _new(self, stem: str, many: int) -> list[str]:
        """Names for further runs of a kind: the only one has no number, others go on where the last ended."""
        taken = {trace.id for trace in self.runs.made}
        if many == 1 and stem not in taken and f"{stem}-1" not in taken:
            return [stem]
        first = next(k for k in count(2 if stem in taken else 1) if f"{stem}-{k}" not in taken)
        return [f"{stem}-{k}" for k in range(first, first + many)]

    def show(self, a: Trace, b: Trace, comparison: Comparison | None = None) -> Seen | None:
        """The difference between two runs, as far as the search must know it; what was read is noted in the later of them, if in any."""
        run = next((run for run in (a, b) if run not in self.controls), a)
        comparison = comparison or compared(a, b, self.flow, self.strict)
        divergence = comparison.divergence
        if divergence is None:
            return None
        if divergence.kind == "failed":
            divergence.detail.raised = raised_at(a, b)
        suspects = self.suspicion(divergence, run).factors
        places = {one.lane: _place_of(one) for one in (divergence, *comparison.others)}
        origin = divergence.detail.origin
        seen = Seen(divergence.lane, places, origin.name if origin is not None else f"{divergence.file}:{divergence.line}", suspects)
        self._shown.append(Shown(seen, divergence, run, comparison))
        return seen

    def suspicion(self, divergence: Divergence, run: Trace) -> Suspicion:
        """Which factors a difference points to."""
        return suspicion(self.factors, divergence, entries_of(run, divergence.lane), self.read)

    def entered_at(self, factor: str, shown: Shown) -> tuple[Place, Reason]:
        """The line where a factor entered that makes a difference that was shown, and what is done there."""
        entries = entries_of(shown.run, shown.divergence.lane)
        return entered_at(self.factors, factor, shown.divergence, entries, self.read, self.files())

    def shown(self, seen: Seen) -> Shown:
        """What stands behind a difference of the search."""
        return next(one for one in self._shown if one.seen is seen)

    def run(self, name: str) -> Trace:
        """A run by its name."""
        return next(trace for trace in self.runs.made if trace.id == name)

    def difference_of(self, cause: Cause) -> Divergence | None:
        """The difference that a cause made."""
        return next((one.divergence for one in self._shown if one.divergence.runs == cause.between), None)

    def try_out(self, wanted: Wanted) -> Trial:
        """Make the runs that are wanted, and say what they show."""
        names = [name for name in self.in_order if name in wanted.factors]
        if wanted.purpose == "varies":
            return self._vary(wanted, names)
        plan = self.plan_with(names)
        if wanted.purpose == "fails":
            return self._trial(wanted, self.make(plan, self._stem("try", names), 1, "experiment", wanted.question), None)
        if wanted.purpose == "returns":
            freed = [name for name in self.available if name not in wanted.factors and name not in self.common]
            watch = self.shown(wanted.around).comparison.watch if wanted.around is not None else None
            # what one run leaves for the next it leaves at the end
            plan = plan.with_watch(watch, to_the_end=any(self.factors[name].between_runs for name in freed)) if watch is not None else plan
            stem = self._stem("free", freed)
        else:
            stem = self._stem("pin", names)
        traces: list[Trace] = []
        seen: Seen | None = None
        left = self._how_many(wanted)
        while left > 0 and seen is None and not self._all_failed(traces):
            more = self.make(plan, stem, 2 if left > 1 else 1, "experiment", wanted.question)
            traces += more
            left -= len(more)
            for trace in traces[max(len(traces) - len(more), 1) :]:
                seen = seen or self.show(traces[0], trace)
            if (
                wanted.purpose == "returns"
                and left == 0
                and seen is None
                and len(traces) < _RUNS_OF_INTERMITTENT
                and self._is_as_free(traces[0], wanted)
            ):
                left = _RUNS_OF_INTERMITTENT - len(traces)
        return self._trial(wanted, traces, seen)

    def _vary(self, wanted: Wanted, names: list[str]) -> Trial:
        plan = self.plan_with(varied=names)
        watch = self.shown(wanted.around).comparison.watch if wanted.around is not None else None
        if watch is not None and len(names) == 1:
            plan = plan.with_watch(watch, to_the_end=True)
        stem = self._stem("vary", names)
        traces = self.make(plan, stem, 1, "experiment", wanted.question)
        if self._failed(traces[0]):
            # it may be one that fails now and then
            traces += self.make(plan, stem, 1, "experiment", Reason.of("fails-each-time"))
            return self._trial(wanted, traces, None if self._all_failed(traces) else self.show(traces[0], traces[1]))
        return self._trial(wanted, traces, self.show(self.controls[0], traces[0]))

    def _trial(self, wanted: Wanted, traces: list[Trace], seen: Seen | None) -> Trial:
        trial = Trial(wanted.factors, wanted.purpose, seen, self._all_failed(traces), tuple(trace.id for trace in traces))
        if not trial.failed:
            return trial
        meta, main = traces[0].meta, traces[0].main
        if meta.get("stopped") == "stalled":
            how = Reason.of("stalls-with-factor")
        elif meta.get("stopped") == "timeout" and self.plan.timeout:
            how = Reason.of("slow-with-factor", seconds=self.plan.timeout)
        else:
            how = Reason.of("fails-with-factor", error=meta.get("error"), status=meta.get("exit"))
        self._failures.append((wanted.factors, how))
        read = [event["factor"] for event in reversed(main.events_of("entered"))] if main is not None else []
        return replace(trial, blamed=tuple(name for name in dict.fromkeys(read) if name in wanted.factors))

    def _failed(self, trace: Trace) -> bool:
        """Whether a run ended as no control did, or was cut short for being slow, so that it shows nothing."""
        if trace.meta.get("stopped") in ("timeout", "stalled"):
            return not any(control.meta.get("stopped") == trace.meta["stopped"] for control in self.controls)
        return trace.meta.get("exit") not in {control.meta.get("exit") for control in self.controls} and not outcome(trace).stopped

    def _all_failed(self, traces: Sequence[Trace]) -> bool:
        return bool(traces) and all(map(self._failed, traces))

    def why_aside(self, name: str) -> Reason:
        """How the script fails with a factor that was set aside, by the run that had the fewest factors beside it."""
        with_it = [(len(factors), how) for factors, how in self._failures if name in factors]
        return min(with_it, key=lambda one: one[0])[1] if with_it else Reason.of("fails-with-factor", error=None, status=None)

    def _is_as_free(self, trace: Trace, wanted: Wanted) -> bool:
        """Whether a run does what one of those did in which the difference was seen: it may come back in another run."""
        if wanted.around is None:
            return False
        pair = self._pair(wanted.around)
        first = parting(*pair, wanted.around.lane)
        return any(rate([trace, other], wanted.around.lane, first) is not None for other in [*pair, *self.controls])

    def _pair(self, seen: Seen) -> tuple[Trace, Trace]:
        """The two runs in which a difference was seen."""
        a, b = self.shown(seen).divergence.runs
        return self.run(a), self.run(b)

    def _how_many(self, wanted: Wanted) -> int:
        if self.intermittent is not None and self.intermittent.others:
            return max(2, min(_needed(self.intermittent), self._most))
        chancy = wanted.purpose == "holds" and len(wanted.factors) == 1 and all(self.factors[name].intermittent for name in wanted.factors)
        return _RUNS_OF_INTERMITTENT if chancy else 2

    @property
    def _most(self) -> int:
        return max(_MOST_RUNS, 2 * len(self.controls))

    def often(self, found: Found) -> Intermittent | None:
        """How often a difference showed in the runs in which the factor that makes it was free; None if in each."""
        if self.shown(found.seen).divergence.kind == "draw":
            return self.intermittent  # its stream is in another state in each run, whatever is done with the numbers
        if self.factors[found.factor].between_runs:
            return None  # the first of several runs is always another one than the rest
        pair = self._pair(found.seen)
        names = {trace.id for trace in pair} | set(found.returned.runs if found.returned is not None else ())
        usual = names & {trace.id for trace in self.controls}
        free = [trace for trace in self.runs.made if trace.id in names or (usual and trace.meta.get("role") in ("control", "look"))]
        return rate(free, found.seen.lane, parting(*pair, found.seen.lane))

    def runs_missing(self, found: Found) -> int:
        """How many more runs must agree with the factor held still, as far as that many are made at all."""
        return max(min(self.runs_needed(found), self._most) - len(found.held.runs), 0)

    def runs_needed(self, found: Found) -> int:
        """How many runs must agree with the factor held still, so that it is no luck."""
        often = self.often(found)
        if often is None:
            return 2
        if found.held.seen is not None or self._pair(found.seen)[0] is not self.controls[0]:
            return _needed(often)
        # They agree to their ends: then it counts how often the controls do so, and not only how often they do up to the difference.
        whole = rate(self.controls, found.seen.lane)
        return min(_needed(often), _needed(whole) if whole is not None else runs_needed(len(self.controls) - 1, len(self.controls) - 1))

    def repeated(self, found: Found) -> Trial:
        """The trial that showed a factor, with as many more runs as are missing, or until one shows the difference again."""
        trial = found.held
        plan = self.plan_with([name for name in self.in_order if name in trial.factors])
        base = self.run(trial.runs[0])
        left = self.runs_missing(found)
        while left > 0:
            more = self.make(plan, base.id.rpartition("-")[0], min(left, 2), "experiment", Reason.of("is-it-luck", factor=found.factor))
            left -= len(more)
            for trace in more:
                seen = self.show(base, trace)
                if seen is not None and (trial.seen is None or _comes_before(seen, trial.seen, found.seen.lane)):
                    trial = replace(trial, seen=seen)
            trial = replace(trial, runs=(*trial.runs, *(trace.id for trace in more)))
            if trial.seen is not None and not _comes_before(found.seen, trial.seen, found.seen.lane):
                break
        return trial

    @property
    def timed_out(self) -> bool:
        """Whether a rerun was ended by the timeout, though no control was: what is slow now will be so again."""
        cut = [trace for trace in self.runs.made if trace.meta.get("stopped") == "timeout"]
        return bool(cut) and not any(trace in self.controls for trace in cut)

    def _stem(self, what: str, names: Sequence[str]) -> str:
        if what == "vary" and len(names) > 1:
            rest = [name for name in self.whole if name not in names]
            all_of_them = "vary-numerics" if set(self.whole) <= self.common else "vary-all"
            if len(rest) <= 3:
                return f"{all_of_them}-but-{'+'.join(rest)}" if rest else all_of_them
        if len(names) == len(self.available) or (what == "pin" and set(names) >= set(self.available) - self.common):
            return f"{what}-all"
        if names and len(names) <= 3:
            return f"{what}-{'+'.join(names)}"
        self._some += 1
        return f"{what}-some-{self._some}"


def _needed(often: Intermittent) -> int:
    return runs_needed(often.apart or 0, often.others or 1)


def _comes_before(a: Seen, b: Seen, lane: str) -> bool:
    """Whether a difference shows in a lane before another one does there."""
    return lane in a.places and (lane not in b.places or a.places[lane] < b.places[lane])


def _place_of(divergence: Divergence) -> int:
    seen = divergence.detail.seen_at
    return seen.index if seen is not None else divergence.index


def seen_at(divergence: Divergence) -> OpLine:
    """The first op that shows a difference."""
    if divergence.detail.seen_at is not None:
        return divergence.detail.seen_at
    return OpLine(
        index=divergence.index, op=divergence.op, phase=divergence.phase, step=divergence.step, differs=True, file=divergence.file,
        line=divergence.line, function=divergence.function, code=divergence.code,
    )  # fmt: skip
