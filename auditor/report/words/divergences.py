"""The words for what is not the same in two runs: facts that `compare` returns."""

from __future__ import annotations

from auditor.report.words.wording import Words, ending, is_known, together


def _run_ended(run: str, error: str | None, status: int | None) -> str:
    how = f" with {ending(error, status)}" if error or status else ""
    return f"{run} ended here{how}, the other run continued"


def _failed_at_the_end(run: str, error: str | None, status: int | None) -> str:
    return f"both runs executed the same ops, then {run} ended with {ending(error, status)}; the line is that of the last op"


def _ended_on_device(run: str, device: str, step: int, error: str | None) -> str:
    return f"{run} on {device} ended in step {step}{f' with {error}' if error else ''}, the other run continued"


def _memory_changed(alone: bool) -> str:
    return f"memory that recorded ops had used was changed{' in one run only' if alone else ''}, but no recorded op wrote it"


def _other_arguments(op: str, a: str | None, b: str | None) -> str:
    return f"{op} was given {a or 'nothing'} in one run and {b or 'nothing'} in the other"


def _other_inputs(op: str, a: list[int | None], b: list[int | None]) -> str:
    return f"{op} was given {_results(a)} in one run and {_results(b)} in the other"


def _results(given: list[int | None]) -> str:
    made = together(["another thread" if index is None else f"op {index}" for index in given])
    return f"the result of {made}" if given else "nothing"


def _interrupted(op: str, file: str, line: int) -> str:
    return (
        f"an exception interrupted {op} at {file}:{line}, such as one raised by a signal handler; what it had done "
        "until then, everything or nothing, was not recorded"
    )


def _inputs(inputs: list[str]) -> str:
    return together([f"input {name}" for name in inputs])


def _read_before_written(inputs: list[str]) -> str:
    return f"{_inputs(inputs)}: read before it was written; it holds what the memory held before"


def _inputs_changed(inputs: list[str], op: str | None = None, file: str | None = None, line: int | None = None) -> str:
    said = f"{_inputs(inputs)} changed although no recorded op wrote {'it' if len(inputs) == 1 else 'them'}"
    return said if op is None or file is None or line is None else f"{said}: {_interrupted(op, file, line)}"


def _computed_outside_torch(function: str | None, ops: list[str], places: list[str], differ: bool) -> str:
    given = together([f"{op} at {place}" for op, place in zip(ops, places, strict=True)])
    same = "different in the two runs" if differ else "equal in both runs"
    by = f"{function} brought it in" if function else "it came in here"
    return f"{by}, computed by code outside torch; the tensors handed out before it ({given}) were {same}"


def _made_of_it(stream: str, seed: bool, file: str | None, line: int | None) -> str:
    return f"{'a seed of ' if seed else ''}{stream} is computed from it at {file}:{line}"


def off_on_devices(devices: list[str], added: float | None, ulps: float | None, excess: float | None) -> str:
    """Which device is off at an op, and by how much; of two it is not known which."""
    if added is not None and not is_known(added):
        by = ": not finite where the other's result is, or should be"
    else:
        by = "" if added is None else f" by {added:.2g} of the result"
    units = f" (up to {ulps:.4g} units in the last place)" if is_known(ulps) else ""
    times = f", {excess:.3g} times its error bound" if is_known(excess) else ""
    if len(devices) == 1:
        return f"{devices[0]} is off here{by}{units}, given its inputs{times}"
    return f"{together(devices)} differ here{by}{units}, more than their inputs explain{times}"


def _off_from_reference(reference: str, added: float | None, ulps: float | None, excess: float | None) -> str:
    units = f" ({ulps:.4g} units in the last place at most)" if ulps is not None else ""
    times = f", {excess:.3g} times its error bound" if is_known(excess) else ""
    return f"recomputed in {reference} from the same inputs, the result is off by {added or 0:.2g} of its norm{units}{times}"


_DRAWN = "the stream {stream} was in a different state when it was drawn from here"
_IN_TURNS = "threads share it, and drew from it in a different order in each run"

WORDS: dict[str, Words] = {
    # from the records alone
    "run-ended": _run_ended,
    "failed-at-the-end": _failed_at_the_end,
    "memory-changed": _memory_changed,
    "other-op": "one run executes {a} here, the other {b}",
    "other-arguments": _other_arguments,
    "other-layout": "the result's dtype, shape, layout or device differs: {a} and {b}",
    "other-compiled-values": "compiled code computed different values; its inputs are equal as far as recorded ops made them",
    "other-row-order": "the same rows in a different order",
    "other-external-values": "an external tensor has different values",
    "other-adopted-values": "memory that no recorded op wrote has different values",
    "other-stream-state": "the random stream that it draws from was in a different state",
    "other-inputs": _other_inputs,
    "same-stream-and-inputs": "the random stream was in the same state, and the inputs are equal as far as recorded ops made them",
    "op-interrupted": _interrupted,
    "input-not-written": "an input was made by torch.empty, and recorded ops wrote none or only part of it",
    "exact-op-differs": (
        "{op} cannot differ by itself on equal inputs: something other than a recorded op wrote its input or its result, such as "
        "an extension, NumPy, another process, or a copy or collective that was still in flight"
    ),
    "same-inputs-as-recorded": "the inputs are equal as far as recorded ops made them",
    "kernel-or-hidden-write": (
        "it is `kernel` if all inputs were equal byte for byte, and `hidden-write` if something other than a recorded op wrote one of them"
    ),
    "computed-outside-torch": _computed_outside_torch,
    # from values that were kept
    "same-inputs": "its inputs are equal",
    "same-inputs-before": "all inputs were equal byte for byte before it ran",
    "other-result": "all inputs are equal byte for byte, but the result is not",
    "read-before-written": _read_before_written,
    "inputs-changed": _inputs_changed,
    "unlike-tensors": "{a} and {b}",
    "values-not-kept": "too large to keep, or of a kind that is not kept; only its digest is known",
    "not-finite": "{elements} of them are not finite in one run",
    # random streams
    "seeded-in-one-run": "the stream {stream} was seeded here in one run and not in the other",
    "seeded-from-entropy": "the stream {stream} was seeded from the operating system's entropy",
    "other-state-set": "the stream {stream} was set to a different state here",
    "other-seed": "the stream {stream} was seeded with {a} in one run and with {b} in the other",
    "other-state-drawn": _DRAWN,
    "shared-stream-drawn": f"{_DRAWN}: {_IN_TURNS}",
    "own-stream-drawn": f"{_DRAWN}: its seed differs, or one run drew from it more often before",
    "stream-seeded-later": f"{_DRAWN}: it is seeded, but later, or one run drew from it more often before",
    "stream-never-seeded": f"{_DRAWN}: it was never seeded",
    "drawn-in-turns": _IN_TURNS,
    "made-of-it": _made_of_it,
    # two devices
    "branch-of-one": "{ops} consecutive ops from here on ran on {device} only, on lines that the other run did not execute",
    "ended-on-device": _ended_on_device,
    "only-on-device": "only {device} executed it",
    "off-on-devices": off_on_devices,
    "off-from-reference": _off_from_reference,
}
