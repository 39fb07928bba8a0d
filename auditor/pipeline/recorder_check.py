"""The self-check: whether being recorded changed what the script does."""

from __future__ import annotations

from typing import Any, NamedTuple

from auditor.results import Audit, Lost, Reason
from auditor.trace.reader import Trace

#: Digests of a step that are compared.
_OF_STEP = ("loss_digest", "gradients", "parameters", "state")


def check_recorder(result: Audit, seen: Trace, again: Trace, bare: Trace | None, steps_only: Trace) -> None:
    """Compare a recorded run with one without us, by output and exit status, and with one without a dispatch mode, by every step.

    Output that the two recorded runs do not share, such as a process id or a duration, shows nothing.
    """
    if result.verdict == "diverged" or any(run.meta.get("stopped") for run in (bare, steps_only) if run is not None):
        why = Reason.of("self-check-of-varying") if result.verdict == "diverged" else Reason.of("self-check-cut-short")
        result.notes.append(why)
        return
    compared = {"stdout": _same_output(seen, again, bare, "stdout"), "stderr": _same_output(seen, again, bare, "stderr")}
    compared["exit"] = None if bare is None else bare.meta.get("exit") == seen.meta.get("exit")
    changed, same, unknown = ([name for name, found in compared.items() if found is kind] for kind in (False, True, None))
    step = first_differing_step(seen, steps_only)
    if changed or step is not None:
        what = [*changed, *(step.what if step is not None else ())]
        about = {} if step is None else step.parameters
        result.coverage.lost.append(Lost(what=Reason.of("recorder-changes", **about | {"what": what})))
        return
    steps = seen.main.steps if seen.main is not None else 0
    # without an optimizer nobody holds the rest
    held = seen.main is not None and any("parameters" in event for event in seen.main.events_of("step"))
    result.notes.append(
        Reason.of("self-checked", same=[*same], unknown=[*unknown], steps=steps, losses_alone=not held, bare=bare is not None)
    )


def _same_output(seen: Trace, again: Trace, bare: Trace | None, name: str) -> bool | None:
    """Whether the bare run printed the same; None where two recorded runs do not."""
    printed = (seen.path / name).read_bytes()
    if bare is None or (again.path / name).read_bytes() != printed:
        return None
    return (bare.path / name).read_bytes() == printed


class StepDifference(NamedTuple):
    """What of a step is not the same in two runs, the first such; or, in `counts` of each run, how many steps there are."""

    what: tuple[str, ...]
    step: int | None = None
    counts: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of a reason."""
        return {"what": [*self.what], "step": self.step, "counts": [*self.counts], "runs": [*self.runs]}


def first_differing_step(a: Trace, b: Trace) -> StepDifference | None:
    """The first step of the main lane after which the two runs do not hold the same, and what is not the same."""
    lanes = [run.main.events_of("step") if run.main is not None else [] for run in (a, b)]
    for ours, theirs in zip(*lanes, strict=False):
        different = [fact for fact in _OF_STEP if ours.get(fact) != theirs.get(fact)]
        if different:
            return StepDifference(tuple(different), ours["step"])
    counts = [run.main.steps if run.main is not None else 0 for run in (a, b)]
    if counts[0] != counts[1]:
        return StepDifference(("steps",), None, tuple(counts), (a.id, b.id))
    return None if len(lanes[0]) == len(lanes[1]) else StepDifference(("updates",))
