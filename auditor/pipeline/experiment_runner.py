"""Makes the runs that a search asks for, and says what each shows.

Every rerun records, beside the ops, the readings of what is another one in each run (`entered`), so that a cause can name its line. A rerun
that is to show that the difference comes back ends shortly behind it and keeps the values there: it is value capture as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from auditor.compare import Comparison
from auditor.experiment import Seen, Trial, Wanted, runs_needed
from auditor.launch import outcome
from auditor.pipeline.differences import Differences
from auditor.pipeline.factor_choice import FactorChoice
from auditor.pipeline.reruns import Reruns, RunRequest
from auditor.pipeline.source_files import SourceFiles
from auditor.pipeline.verdict import parting, rate
from auditor.pipeline.working_folder import WorkingFolder
from auditor.plan import Plan
from auditor.results import Intermittent, Reason
from auditor.trace.reader import Trace

#: Runs that must agree if the difference need not show each time.
_RUNS_OF_INTERMITTENT = 4
#: Runs at most that are made to see whether they agree, unless the user asks for many controls.
_MOST_RUNS = 6


@dataclass
class ExperimentRunner:
    """What every rerun of one audit is made with."""

    plan: Plan
    factors: FactorChoice
    runs: Reruns
    controls: list[Trace]
    folder: WorkingFolder
    source: SourceFiles
    differences: Differences
    intermittent: Intermittent | None = None
    whole: Sequence[str] = ()
    """All factors that are varied together."""
    _some: int = 0
    _failures: list[tuple[frozenset[str], Reason]] = field(default_factory=list)

    @classmethod
    def of(
        cls, plan: Plan, factors: FactorChoice, runs: Reruns, controls: list[Trace], folder: WorkingFolder, strict: bool = False
    ) -> ExperimentRunner:  # fmt: skip
        """A runner that has shown nothing yet; unless `strict`, differences that reach no part of the training are none."""
        source = SourceFiles(plan.cwd, controls[0] if controls else None)
        return cls(plan, factors, runs, controls, folder, source, Differences(factors, source, strict))

    @property
    def strict(self) -> bool:
        """Whether a difference that reaches no part of the training counts."""
        return self.differences.strict

    def plan_with(self, pinned: Sequence[str] = (), varied: Sequence[str] = ()) -> Plan:
        """The plan with these factors held and varied, in the working directory as it was before the first run."""
        return self.folder.begun(self.factors.plan_with(self.plan, pinned, varied))

    def make(
        self, plan: Plan, stem: str, many: int, role: str, question: Reason, texts: Mapping[str, str] | None = None
    ) -> list[Trace]:  # fmt: skip
        """Several runs of one plan; where the script leaves files behind and may find them, each finds those of the one before.

        `texts`: files of the user's that have another text in these runs.
        """
        names = self._new(stem, many)
        with self.folder.plan_in_copy(plan, names[0], texts or {}) as (here, in_turn):
            if not in_turn:
                return self.runs.several([RunRequest(here, name, role) for name in names], question)
            return [trace for name in names for trace in self.runs.several([RunRequest(here, name, role)], question)]

    def show(self, a: Trace, b: Trace, comparison: Comparison | None = None) -> Seen | None:
        """The difference between two runs, as far as the search must know it."""
        return self.differences.show(a, b, self.controls, comparison)

    def _new(self, stem: str, many: int) -> list[str]:
        """Names for further runs of a kind: the only one has no number, others go on where the last ended."""
        taken = {trace.id for trace in self.runs.made}
        if many == 1 and stem not in taken and f"{stem}-1" not in taken:
            return [stem]
        first = next(k for k in count(2 if stem in taken else 1) if f"{stem}-{k}" not in taken)
        return [f"{stem}-{k}" for k in range(first, first + many)]

    def run(self, name: str) -> Trace:
        """A run by its name."""
        return next(trace for trace in self.runs.made if trace.id == name)

    def try_out(self, wanted: Wanted) -> Trial:
        """Make the runs that are wanted, and say what they show."""
        names = [name for name in self.factors.in_order if name in wanted.factors]
        if wanted.purpose == "varies":
            return self._vary(wanted, names)
        plan = self.plan_with(names)
        if wanted.purpose == "fails":
            return self._trial(wanted, self.make(plan, self._stem("try", names), 1, "experiment", wanted.question), None)
        if wanted.purpose == "returns":
            freed = [name for name in self.factors.available if name not in wanted.factors and name not in self.factors.common]
            watch = self.differences.of(wanted.around).comparison.watch if wanted.around is not None else None
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
        watch = self.differences.of(wanted.around).comparison.watch if wanted.around is not None else None
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
        pair = self.pair_of(wanted.around)
        first = parting(*pair, wanted.around.lane)
        return any(rate([trace, other], wanted.around.lane, first) is not None for other in [*pair, *self.controls])

    def pair_of(self, seen: Seen) -> tuple[Trace, Trace]:
        """The two runs in which a difference was seen."""
        a, b = self.differences.of(seen).divergence.runs
        return self.run(a), self.run(b)

    def _how_many(self, wanted: Wanted) -> int:
        if self.intermittent is not None and self.intermittent.others:
            return max(2, min(needed_at(self.intermittent), self.most_runs))
        intermittent = (
            wanted.purpose == "holds" and len(wanted.factors) == 1 and all(self.factors[name].intermittent for name in wanted.factors)
        )
        return _RUNS_OF_INTERMITTENT if intermittent else 2

    @property
    def most_runs(self) -> int:
        """Runs at most that are made to see whether they agree."""
        return max(_MOST_RUNS, 2 * len(self.controls))

    @property
    def timed_out(self) -> bool:
        """Whether a rerun was ended by the timeout, though no control was: what is slow now will be so again."""
        cut = [trace for trace in self.runs.made if trace.meta.get("stopped") == "timeout"]
        return bool(cut) and not any(trace in self.controls for trace in cut)

    def _stem(self, what: str, names: Sequence[str]) -> str:
        if what == "vary" and len(names) > 1:
            rest = [name for name in self.whole if name not in names]
            all_of_them = "vary-numerics" if set(self.whole) <= self.factors.common else "vary-all"
            if len(rest) <= 3:
                return f"{all_of_them}-but-{'+'.join(rest)}" if rest else all_of_them
        if len(names) == len(self.factors.available) or (what == "pin" and set(names) >= set(self.factors.available) - self.factors.common):
            return f"{what}-all"
        if names and len(names) <= 3:
            return f"{what}-{'+'.join(names)}"
        self._some += 1
        return f"{what}-some-{self._some}"


def needed_at(often: Intermittent) -> int:
    """How many runs must agree at this rate, so that it is no luck."""
    return runs_needed(often.apart or 0, often.others or 1)
