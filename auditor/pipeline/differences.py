"""The differences that reruns showed, as a search must know them, and what stands behind each: the runs, the factors and the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from auditor.compare import Comparison
from auditor.diagnose import Suspicion, entered_at, entries_of, suspicion
from auditor.experiment import Seen
from auditor.pipeline.factor_choice import FactorChoice
from auditor.pipeline.source_files import SourceFiles
from auditor.pipeline.verdict import compared, raised_at
from auditor.results import Cause, Divergence, OpLine, Place, Reason
from auditor.trace.reader import Trace


@dataclass
class Shown:
    """The difference of a trial, and the run in which its lines are."""

    seen: Seen
    divergence: Divergence
    run: Trace
    comparison: Comparison


@dataclass
class Differences:
    """All that were shown so far."""

    factors: FactorChoice
    source: SourceFiles
    strict: bool = False
    _shown: list[Shown] = field(default_factory=list)

    def show(self, a: Trace, b: Trace, controls: Sequence[Trace], comparison: Comparison | None = None) -> Seen | None:
        """The difference between two runs, as far as the search must know it; what was read is noted in the later of them, if in any."""
        run = next((run for run in (a, b) if run not in controls), a)
        comparison = comparison or compared(a, b, self.source.flow, self.strict)
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
        return suspicion(self.factors.all, divergence, entries_of(run, divergence.lane), self.source.read)

    def entered_at(self, factor: str, shown: Shown) -> tuple[Place, Reason]:
        """The line where a factor entered that makes a difference that was shown, and what is done there."""
        entries = entries_of(shown.run, shown.divergence.lane)
        return entered_at(self.factors.all, factor, shown.divergence, entries, self.source.read, self.source.names())

    def of(self, seen: Seen) -> Shown:
        """What stands behind a difference of the search."""
        return next(one for one in self._shown if one.seen is seen)

    def of_cause(self, cause: Cause) -> Divergence | None:
        """The difference that a cause made."""
        return next((one.divergence for one in self._shown if one.divergence.runs == cause.between), None)


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
