"""What is said of one divergence: what its kind means, when it was, what it reaches, how often it shows, what is not the same there."""

from __future__ import annotations

from auditor.report.words.runs import run_names
from auditor.report.words.text import counted, listed, op_name, percent, place, plain
from auditor.results import Divergence, Intermittent, Kind, OpLine, Reach

#: What a kind of divergence means, as half a sentence.
MEANINGS: dict[Kind, str] = {
    "draw": "the runs draw different random numbers",
    "kernel": "same op, equal inputs, different results",
    "kernel-or-hidden-write": "same op, different results; whether its inputs are equal was not recorded",
    "uninitialized": "uninitialized memory was read",
    "data": "the input data differ",
    "data-order": "same data in a different order",
    "hidden-write": "a tensor was changed by no recorded op",
    "outside-torch": "code outside PyTorch computed different results",
    "argument": "an op was given a different number or flag",
    "structure": "the runs execute different ops",
    "arithmetic": "a result exceeds its error bound",
    "failed": "one run stopped with an error, the other did not",
}


def meaning(divergence: Divergence) -> str:
    """What a divergence means, as half a sentence; of a line that seeds a stream and draws nothing that the seeds differ."""
    origin = divergence.detail.origin
    if divergence.kind == "draw" and origin is not None and origin.how == "seed":
        return "the seed comes from OS entropy" if origin.entropy else "the seed differs between the runs"
    return MEANINGS[divergence.kind]


#: What a difference reaches, in words.
REACHED: dict[Reach, str] = {
    "loss": "the loss", "gradients": "gradients", "parameters": "parameters", "optimizer-state": "optimizer state",
    "saved-files": "saved files", "collective": "a collective", "number": "a number that the script reads, such as one that it prints",
    "nothing": "nothing else",
}  # fmt: skip


#: The title of differences that reach no part of the training.
SIDE_TITLE = "Side differences (they do not reach the training; --strict counts them)"


def divergence_facts(divergence: Divergence) -> list[tuple[str, str]]:
    """What is known of the divergent op in a few words each: (name, fact)."""
    lane = "" if divergence.lane == "main" else f" of lane {plain(divergence.lane)}"
    inside = [f"module {plain(divergence.module)}"] if divergence.module else []
    if divergence.function and divergence.function != "<module>":
        inside.append(f"function {plain(divergence.function)}")
    found = [
        ("op", f"{op_name(divergence.op)} (op {divergence.index}{lane})"),
        ("when", step_and_phase(divergence)),
        ("in", ", ".join(inside)),
        ("how often", rate(divergence.intermittent) if divergence.intermittent else ""),
        ("reaches", reaching(divergence)),
        ("shared memory", _handed(divergence)),
    ]
    return [(name, fact) for name, fact in found if fact]


def _handed(divergence: Divergence) -> str:
    """The tensors whose memory code that torch does not see was given before the divergence."""
    handed = [(f"{op_name(one.op)} at {place(one.file, one.line)}", one.differs) for one in divergence.detail.handed]
    each = [f"{where} (differs)" if differs else where for where, differs in handed]
    return listed(dict.fromkeys(each)) if each else ""


def reaching(divergence: Divergence) -> str:
    """What a difference reaches, as far as it is known."""
    return listed(REACHED[what] for what in divergence.reaches) if divergence.reaches else ""


def step_and_phase(event: Divergence | OpLine) -> str:
    """`step 3, backward`; `setup` for what is before the first step and in no phase of it."""
    before = event.phase == "setup" and event.step == 0
    step = [] if event.step is None or before else [f"step {event.step}"]
    return ", ".join([*step, *([plain(event.phase)] if event.phase else [])])


def rate(intermittent: Intermittent) -> str:
    """How often the runs differed, with the interval that holds the rate, and which of them agree."""
    groups = intermittent.groups
    apart, of, low, high = intermittent.apart, intermittent.others, intermittent.low, intermittent.high
    if apart is None or not of:
        alike = [f"{run_names(group)} agree" for group in groups if len(group) > 1]
        alone = [group[0] for group in groups if len(group) == 1]
        said = "; ".join([*alike, *([f"{run_names(alone)} with no other run"] if alone else [])])
        pairs = f"{intermittent.differing} of {counted(intermittent.pairs, 'pair')} of runs differ"
        return f"{pairs}: {said}" if said else pairs
    most = max(groups, key=len, default=[])
    rest = run_names(name for group in groups if group is not most for name in group)
    who = f" ({rest})" if len(groups) > 1 else ""
    than = f" from {plain(most[0])}" if most else ""
    interval = f", 95 % CI {percent(low)}-{percent(high)} %" if low is not None and high is not None else ""
    return f"{apart} of {counted(of, 'run')}{who} diverged{than}: {percent(apart / of)} %{interval}"


def share_that_differs(divergence: Divergence) -> str | None:
    """How much of what follows differs too; None if it was not counted."""
    differing, compared = divergence.detail.differing_ops, divergence.detail.compared_ops
    if differing is None or compared is None:
        return None
    of = "all" if differing == compared else f"{differing:,} of the"
    return f"{of} {counted(compared, 'op')} compared from there on differ"


def shown_at(divergence: Divergence) -> str:
    """The op whose tensors and arguments are shown: for a draw or seed the first op that shows it."""
    seen = divergence.detail.seen_at
    return f"op {seen.index if seen else divergence.index}"
