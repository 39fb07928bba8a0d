"""Runs as they are shown: those made alike and ended alike in one row, and of very many rows those that something speaks of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from auditor.report.words.factors import pinned_and_varied
from auditor.report.words.runs import ending, run_names
from auditor.report.words.text import plain
from auditor.results import Audit, RunOutcome, Search

#: Most runs that are shown one by one, and most rows in which more of them are.
_SINGLY, _ROWS = 8, 16


@dataclass(frozen=True)
class RunRow:
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


def run_rows(audit: Audit, most: int = _ROWS) -> tuple[list[RunRow], int]:
    """The runs as they are shown, and how many are not: many are folded, and those that nothing in the audit names left out first."""
    single = [RunRow([run], plain(run.id), _made(run, audit.search)) for run in audit.runs]
    if len(audit.runs) <= _SINGLY:
        return single, 0
    alike: dict[tuple[object, ...], list[RunOutcome]] = {}
    for run in audit.runs:
        key = (run.role, run.device, frozenset(run.pinned), frozenset(run.varied), ending(run), run.error)
        alike.setdefault(key, []).append(run)
    rows = [RunRow(runs, run_names(run.id for run in runs), _made(runs[0], audit.search)) for runs in alike.values()]
    named = _named(audit)
    chosen = sorted(range(len(rows)), key=lambda k: not any(run.role != "experiment" or run.id in named for run in rows[k].runs))[:most]
    return [rows[k] for k in sorted(chosen)], sum(len(row.runs) for k, row in enumerate(rows) if k not in chosen)


def _made(run: RunOutcome, search: Search | None) -> str:
    return ", ".join(filter(None, [plain(run.device) if run.device != "cpu" else "", pinned_and_varied(run, search)]))


def _named(audit: Audit) -> set[str]:
    """The runs that something else in the audit speaks of."""
    found = set(audit.divergence.runs) if audit.divergence else set()
    for cause in audit.causes:
        found.update([*cause.proof, *cause.between, *(cause.patch.runs if cause.patch else [])])
    return found
