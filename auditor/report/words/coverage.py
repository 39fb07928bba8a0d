"""The words for what was not seen, and for why a factor took no part."""

from __future__ import annotations

from auditor.report.words.notes import recorder_changes
from auditor.report.words.wording import Words


def _unseen_child(program: str | None, place: str | None) -> str:
    where = f"{program}, started at {place}" if place else program
    why = "Python was started with -I, -E or -S, has no repro-audit, or ended too early"
    return f"what a child process did ({where}) was not recorded: {why}"


def _fails_with_factor(error: str | None, status: int | None) -> str:
    how = error or (None if status is None else f"exit status {status}")
    return f"the script fails with it: {how}" if how else "the script fails with it"


WORDS: dict[str, Words] = {
    # in the words of the recorder
    "recorder-lost": "{what}",
    "after-recording-stopped": "everything after the recording stopped ({why})",
    "after-hard-exit": "everything that ran after the process ended without its exit handlers (os._exit)",
    "unknown-lines": "lines of the trace that this version cannot read",
    "other-formula": "{op}: under any dispatch mode torch uses a different formula for its gradient",
    "digested-on-cuda": (
        "results on CUDA are digested there by kernels between the script's own, and the digests are read when an optimizer steps; "
        "this changes the timing and can hide a race"
    ),
    "copied-to-cpu": (
        "external tensors on CUDA are copied to the CPU to be digested: this synchronizes with the device and can hide a race"
    ),
    "unseen-child": _unseen_child,
    "single-ops": "single ops: the runs were recorded at different levels, so their steps were compared",
    "recorder-changes": recorder_changes,
    # factors: in their own words, or by what the runs show
    "unavailable": "{why}",
    "nothing-left-behind": "the runs left nothing behind in the working directory",
    "fails-with-factor": _fails_with_factor,
    "slow-with-factor": "the script fails with it: ended after {seconds:g} s",
    "stalls-with-factor": "the script fails with it: it makes no progress",
}
