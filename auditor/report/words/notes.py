"""The words for the notes of an audit, and for why it is inconclusive; the latter end with their slug, for those who search for it."""

from __future__ import annotations

from auditor.report.words.text import counted, listed
from auditor.report.words.wording import Words, ending

_OF_STEP = {
    "loss_digest": "loss", "gradients": "gradients", "parameters": "parameters", "state": "optimizer state", "stdout": "its stdout",
    "stderr": "its stderr", "exit": "its exit status",
}  # fmt: skip


def _agreeing(agree: bool) -> str:
    return "; the runs agree as far as they were recorded" if agree else ""


def _still_going(run: str, agree: bool = False) -> str:
    return f"{run} is still running{_agreeing(agree)} [still-going]"


def _unfinished(run: str, agree: bool = False) -> str:
    return f"{run} is incomplete: repro-audit was killed before the script ended{_agreeing(agree)} [unfinished]"


def _timeout(run: str, seconds: float | None, agree: bool = False) -> str:
    return f"{run} was ended{f' after {seconds:g} s' if seconds else ''}{_agreeing(agree)} [timeout]"


def _stalled(run: str, agree: bool = False) -> str:
    return f"{run} made no progress for far longer than a whole run takes and was stopped{_agreeing(agree)} [stalled]"


def _interrupted(run: str, agree: bool = False) -> str:
    return f"{run} was interrupted{_agreeing(agree)} [interrupted]"


def _recording_stopped(run: str, why: str, agree: bool = False) -> str:
    space = ", there was no space left" if why == "disk-full" else ""
    return f"recording of {run} stopped early{space}{_agreeing(agree)} [{why}]"


def _script_failed(error: str | None, status: int | None) -> str:
    return f"the script fails in both runs in the same way: {ending(error, status)} [script-failed]"


def _status(error: str | None, status: int | None) -> str:
    return error or f"status {status}"


def _program_ended(run: str, error: str | None, status: int | None) -> str:
    return f"{run} ended with {_status(error, status)}: compared up to there"


def _one_program_ended(run: str, error: str | None, status: int | None, names: int) -> str:
    return f"Program {run} ended with {_status(error, status)}, and the other did not; {names} names agree up to there."


def _first_values_given(a: list[str], b: list[str]) -> str:
    pairs = [f"{ours} into {theirs}" for ours, theirs in zip(a, b, strict=True)]
    return f"the second program was given first values of the first: {listed(pairs)}"


def _not_given(names: list[str], why: list[str]) -> str:
    return f"not given: {listed(f'{name} ({reason})' for name, reason in zip(names, why, strict=True))}"


def _compared_in_first_steps(devices: list[str], steps: int) -> str:
    return f"{listed(devices)} were compared in the first {steps} steps; --devices compares all"


def _devices_not_compared(devices: list[str]) -> str:
    return f"{listed(devices)} were not compared, because the script does not repeat on one device"


def _ended_elsewhere(device: str, error: str | None, status: int | None) -> str:
    return f"on {device} the script ended with {_status(error, status)}"


def _no_cpu_run(devices: list[str]) -> str:
    return f"a run on the CPU was left out, because the script computes on {listed(devices)}"


def _same_ports(ports: list[str]) -> str:
    return f"each run uses port {listed(ports)}, so runs were made one at a time"


def _of_step(what: list[str], step: int | None, counts: list[int], runs: list[str]) -> list[str]:
    """What of a step is not the same."""
    if what == ["steps"]:
        each = [f"{counted(count, 'step')} in {run}" for count, run in zip(counts, runs, strict=True)]
        return [f"the number of steps ({listed(each)})"]
    if what == ["updates"]:
        return ["the number of optimizer steps"]
    return [f"the {listed(_OF_STEP[one] for one in what)} at step {step}"] if what else []


def _steps_differ(what: list[str], step: int | None, counts: list[int], runs: list[str]) -> str:
    return f"the runs differ in {_of_step(what, step, counts, runs)[0]}: to see the op, record the ops of that step (--window)"


def recorder_changes(what: list[str], step: int | None = None, counts: list[int] | None = None, runs: list[str] | None = None) -> str:
    """What being recorded changed: the script's output and exit status, and its steps."""
    own = [one for one in what if one in ("stdout", "stderr", "exit")]
    steps = _of_step([one for one in what if one not in own], step, counts or [], runs or [])
    return f"self-check: being recorded changed {listed([*(_OF_STEP[one] for one in own), *steps])}"


def _self_checked(same: list[str], unknown: list[str], steps: int, losses_alone: bool, bare: bool) -> str:
    said = [f"{listed(_OF_STEP[one] for one in same)} equal those of a run without the recorder"] if same else []
    if steps:
        what = "losses" if losses_alone else "losses, gradients, parameters and optimizer state"
        said.append(f"{what} at each of {steps} steps equal those of a run without a dispatch mode")
    if unknown:
        why = "they differ between two recorded runs" if bare else "without the recorder nothing ends the script after N steps"
        said.append(f"{listed(_OF_STEP[one] for one in unknown)} could not be checked: {why}")
    return f"self-check: {'; '.join(said)}"


WORDS: dict[str, Words] = {
    # an error, in its own words
    "error": "{message} [{slug}]",
    "nothing-of-run": "{run}: {message} [{slug}]",
    # why nothing, or less than all, can be said
    "still-going": _still_going,
    "unfinished": _unfinished,
    "timeout": _timeout,
    "stalled": _stalled,
    "interrupted": _interrupted,
    "recording-stopped": _recording_stopped,
    "script-failed": _script_failed,
    "one-program-ended": _one_program_ended,
    # how the runs were made and compared
    "lane-in-one-run": "lane {lane} ({ops} ops) exists only in {run}",
    "lane-ended": "lane {lane} ended at op {index} in one run and continued in the other: compared up to there",
    "steps-differ": _steps_differ,
    "inputs-not-digested": (
        "inputs were not digested in these runs, so a write by something other than torch cannot be separated from a different result of "
        "the op: audit the script to have its values captured"
    ),
    "fault-moves": "the fault moves: the controls differ first at op {first}, the reruns with value capture at op {closer}",
    "search-timed-out": "the search for causes stopped because a rerun reached the timeout; there may be more causes",
    "search-given-up": "the search for causes stopped after {trials} trials; there may be more causes",
    "not-at-once": "two concurrent runs fail where one does not, so runs were made one at a time",
    "same-ports": _same_ports,
    # devices
    "compared-in-first-steps": _compared_in_first_steps,
    "devices-not-compared": _devices_not_compared,
    "ended-elsewhere": _ended_elsewhere,
    "no-gpu-run": "a run on a GPU was left out: {why}",
    "gpu-not-used": "a run on a GPU was left out, because the script computes on the CPU; --devices cpu,cuda moves it there",
    "no-cpu-run": _no_cpu_run,
    "wants-gpu": "the script needs a GPU and there is none here; --devices cpu runs it on the CPU as if there were one",
    # the self-check
    "self-check-of-varying": "self-check: no answer, because the script does not repeat anyway",
    "self-check-cut-short": "self-check: no answer, because a run ended early",
    "self-checked": _self_checked,
    # two programs
    "nothing-shared": "no weights were copied: no weight of one program has a counterpart in the other; --map A=B names counterparts",
    "program-ended": _program_ended,
    "first-values-given": _first_values_given,
    "not-given": _not_given,
}
