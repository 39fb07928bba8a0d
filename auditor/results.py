"""What an audit concluded, as data: pydantic models that are written to JSON and read back. A report is a rendering of an `Audit`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from auditor.redaction import redacted, redacted_words

Verdict = Literal["diverged", "no-divergence-seen", "inconclusive"]
Kind = Literal[
    "draw", "kernel", "kernel-or-hidden-write", "uninitialized", "data", "data-order", "hidden-write", "outside-torch", "argument",
    "structure", "arithmetic", "failed",
]  # fmt: skip
#: What a difference reaches; `number`: a Python number, as for a line that is printed.
Reach = Literal["loss", "gradients", "parameters", "optimizer-state", "saved-files", "collective", "number", "nothing"]
Level = Literal["error", "warning", "note"]
#: Words of the script's, or of an error that repeats them: without credentials.
_Said = Annotated[str, AfterValidator(redacted)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", description="xxh3-64 of the bytes in memory order, in hexadecimal")]


class Model(BaseModel):
    """Unknown keys are kept: an audit written by a newer version loses nothing when it is read and written again."""

    model_config = ConfigDict(extra="allow")


#: What a reason is about: names, numbers, places; never a sentence.
Parameter = bool | int | float | _Said | list[_Said | int | float | None] | None


class Reason(BaseModel):
    """A fact by its slug and what it is about; `report.words.reasons` makes the sentence of it.

    A rendered `text` is no part of it, and is not read back. A sentence in its place is that of an audit of an earlier version.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    slug: str
    parameters: dict[str, Parameter] = {}

    @classmethod
    def of(cls, slug: str, /, **parameters: Parameter) -> Reason:
        """The reason with this slug."""
        return cls(slug=slug, parameters=parameters)

    @model_validator(mode="before")
    @classmethod
    def _of_a_sentence(cls, value: Any) -> Any:
        return {"slug": "as-written", "parameters": {"text": value}} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return ([value] if value else []) if isinstance(value, str) else value


#: Reasons that make one sentence together.
Reasons = Annotated[list[Reason], BeforeValidator(_listed)]
Role = Literal["control", "experiment", "look", "check", "kept", "device", "program"]


class RunOutcome(Model):
    """One execution of the script, as far as it was seen."""

    id: str
    role: Role = "control"
    device: str = "cpu"
    pinned: list[str] = []
    varied: list[str] = []
    exit: int | None = Field(None, description="exit status; negative: ended by that signal; null: still unknown")
    seconds: float | None = None
    ops: int = 0
    steps: int = 0
    path: str = ""
    error: _Said | None = Field(None, description="last line of the script's own traceback, if it ended with one")
    stopped: str | None = Field(None, description="why the auditor ended it early: `steps`, `timeout`, `stalled`, `interrupted`")


class Place(Model):
    """A line of the user's code."""

    file: str | None = None
    line: int | None = None
    function: str | None = None
    code: str | None = None


class OpLine(Place):
    """One op (or draw, or first sight of a tensor) near the divergence."""

    index: int
    op: str
    phase: str = ""
    step: int | None = None
    differs: bool = False
    note: Reason | None = None


class Difference(Model):
    """How two tensors of equal dtype and shape differ.

    `relative` is |a-b| / max(|a|, |b|), the largest over all elements; `ulp` counts representable numbers between the two
    (signed-magnitude order, so -0.0 and 0.0 are 0 apart); both are null for dtypes without them.
    """

    slot: str = Field(description="`in0`, `in1`, ... or `out0`, ...")
    dtype: str
    shape: list[int]
    differs: bool
    elements: int = 0
    of: int = 0
    absolute: float | None = None
    relative: float | None = None
    ulp: int | None = None
    first: list[int] | None = Field(None, description="index of the first element that differs")
    a: str | None = Field(None, description="that element in the first run")
    b: str | None = None
    rows_permuted: bool = False
    never_written: bool = Field(False, description="every differing element still holds what its memory was born with")
    note: Reason | None = None


class Evidence(Model):
    """What value capture found at the divergence."""

    runs: list[str] = []
    inputs: list[Difference] = []
    outputs: list[Difference] = []
    reasons: Reasons = []


class Stream(Model):
    """A random stream, seed or setting that differs before the divergence."""

    name: str
    how: Literal["draw", "seed", "setting"] = Field(description="what was done there")
    function: str | None = Field(None, description="by which function")
    a: str | None = None
    b: str | None = None
    file: str | None = None
    line: int | None = None
    entropy: bool = Field(False, description="it was seeded from the operating system's entropy")
    shared: bool = Field(False, description="several threads draw from it, and did so in another order")


#: `other-order`: a folder has as many names, perhaps the same ones.
WhatOfFile = Literal["other-content", "other-names", "other-order", "one-run-only"]


class FileDifference(Model):
    """A file that both runs opened, or a folder that both listed, and that did not hold the same; and the line that did so."""

    path: str
    op: str
    what: WhatOfFile
    file: str | None = None
    line: int | None = None


class Intermittent(Model):
    """How often a fault showed: `differing` of `pairs` compared pairs of runs, and the runs grouped by what they did.

    Of `others`, which are all runs but one of the largest group, `apart` did something else than that one; `low` and `high` are the ends
    of the interval that holds the rate `apart / others` with 95 % (Wilson, Journal of the American Statistical Association 22, 1927).
    """

    differing: int
    pairs: int
    groups: list[list[str]] = []
    apart: int | None = None
    others: int | None = None
    low: float | None = None
    high: float | None = None


class Detail(Model):
    """All that helps to understand a divergence and that is not needed to name it."""

    before: list[OpLine] = []
    carriers: list[OpLine] = []
    differing_ops: int | None = Field(None, description="ops whose result differs, of those compared behind the first")
    compared_ops: int | None = None
    evidence: Evidence | None = None
    streams: list[Stream] = []
    files: list[FileDifference] = []
    seen_at: OpLine | None = Field(None, description="for a draw or seed: the first op that shows it")
    origin: Stream | None = Field(None, description="for a draw or seed: the stream")
    allocated: Place | None = Field(None, description="for memory that nobody wrote: the line that made it")
    handed: list[OpLine] = Field([], description="tensors whose memory was handed out before it to code that torch does not see")
    raised: Place | None = Field(None, description="for a run that failed: the last line of the user's in its traceback")
    row: int | None = Field(None, description="the record of the first run's lane at which it, or its origin, is")
    a: dict[str, Any] = {}
    b: dict[str, Any] = {}
    forward: Place | None = Field(None, description="for a backward op: the line of its forward op")


#: The op of a divergence at which one run had ended.
END = "end-of-run"


class Divergence(Model):
    """The first difference between two runs, and what it is."""

    runs: list[str]
    kind: Kind
    lane: str
    index: int
    step: int | None
    phase: str
    op: str
    module: str | None = None
    file: str | None = None
    line: int | None = None
    function: str | None = None
    code: str | None = None
    intermittent: Intermittent | None = None
    reaches: list[Reach] = Field([], description="what the differences between the two runs reach; empty: not known")
    reasons: Reasons = Field([], description="what is not the same, and how")
    detail: Detail = Detail()
    around: list[tuple[int, str]] = Field([], description="the line with those around it, each with its number; empty: not known")


class Patch(Model):
    """A change of the script that was run twice and made a cause go away."""

    file: str
    diff: str = Field(description="unified, from the script as it is to the script as it was run")
    runs: list[str] = Field([], description="the runs of the patched script, which agree")
    applied: bool = False
    backup: str | None = Field(None, description="where the script as it was is kept, if it was changed and is not under version control")


#: How a finding is seen to be about a divergence: it is at the line, its line feeds that line, it names the lane, or the record.
About = Literal["line", "feeds", "lanes", "rows"]


class Explanation(Place):
    """A finding that explains the divergence: why the runs differ, where no factor is proved to be it or one is only the symptom."""

    rule: str
    relation: About
    message: str
    instead: str | None = None


class Cause(Place):
    """A factor whose pinning makes a difference go away; the line is that where it entered."""

    factor: str
    proved: bool
    kind: Kind
    grade: Literal["logical", "numerical"] = Field("logical", description="numerical: only rounding is not the same")
    reasons: Reasons = Field([], description="what the factor does here, and what is to be said for and against it")
    fix: str | None = Field(None, description="what to change, in words")
    because: str = Field("", description="why the runs differ, in half a sentence")
    proof: list[str] = []
    between: list[str] = Field([], description="the two runs in which the difference was seen")
    seen_at: OpLine | None = Field(None, description="the first op that shows it")
    symptom_of: Explanation | None = Field(None, description="the finding of which this is only the symptom: pinned, the fault repeats")
    patch: Patch | None = None
    around: list[tuple[int, str]] = Field([], description="the line with those around it, each with its number; empty: not known")


class Search(Model):
    """What was tried in order to find causes."""

    pinned: list[str] = Field([], description="factors that were held still when all were")
    varied: list[str] = Field([], description="factors that were made another than usual, because the controls agree")
    rounded: list[str] = Field([], description="of the varied ones, those that change how results are rounded, and nothing beyond that")
    left_out: dict[str, Reason] = Field({}, description="factors that took no part, and why")
    beyond: bool = Field(False, description="the runs differ even with all factors held still")
    possible: Reasons = Field([], description="what remains possible")


class Finding(Model):
    """A rule that matched."""

    rule: str
    level: Level
    file: str | None = None
    line: int | None = None
    code: str | None = None
    count: int = Field(1, description="how often it happened there")
    steps: int = Field(0, description="in how many steps; 0 where that is not told")
    message: str
    instead: str | None = Field(None, description="what to do about it")
    forecast: bool = Field(False, description="what would be on a GPU, as it is documented: nothing that was wrong in the run")
    patch: Patch | None = None
    evidence: dict[str, Any] = {}
    around: list[tuple[int, str]] = Field([], description="the line with those around it, each with its number; empty: not known")


class Lost(Model):
    """Something that the recorder knows it did not see."""

    what: Reason
    count: int = 1
    lane: str | None = None
    run: str | None = None


class Coverage(Model):
    """What was compared, and what was not; and how often, in how many lines of the script, tensors were written in place."""

    lanes: int = 0
    ops: int = 0
    in_place_writes: int = 0
    in_place_lines: int = 0
    lost: list[Lost] = []


class EnvironmentDifference(Model):
    """A fact about the machine or its software that is not the same for two runs."""

    name: str
    a: str | None
    b: str | None


class OpError(OpLine):
    """How far the result of one op is off: between two devices, and by what the op itself did.

    Norms are Euclidean, over all of the result's elements; ULPs are units in the last place of the result's dtype.
    """

    module: str | None = None
    run: str | None = Field(None, description="the run whose result is off")
    dtype: str = ""
    shape: list[int] = []
    drift: float | None = Field(None, description="norm of the difference between the two devices over the norm of the result")
    added: float | None = Field(None, description="norm of the error that the op made from the inputs that it had, over that of the result")
    ulps: float | None = Field(None, description="that error where it is largest")
    mean_ulps: float | None = Field(None, description="that error in the mean over the elements")
    excess: float | None = Field(None, description="that error over its bound, where this is largest")
    times: int = Field(1, description="how often this line did the op")
    lane: str = "main"
    forward: Place | None = Field(None, description="for a backward op: the line of its forward op")


class CurvePoint(Model):
    """How far two devices are apart at one op."""

    index: int
    step: int | None = None
    phase: str = ""
    drift: float


class DeviceComparison(Model):
    """Two runs on different devices."""

    devices: list[str]
    runs: list[str]
    aligned: int = Field(0, description="ops that both devices did")
    unaligned: int = Field(0, description="ops that one of them did otherwise")
    curve: list[CurvePoint] = []
    first: OpError | None = Field(None, description="the first op that exceeds its error bound")
    most: list[OpError] = Field([], description="the ops that added most")
    end: float | None = Field(None, description="how far the parameters are apart at the end")
    unmeasured: dict[str, int] = Field({}, description="ops whose own error is not known, and how often they ran")
    other: Divergence | None = Field(None, description="the first difference that is not arithmetic: data, a draw, which ops were done")
    differs_from: OpLine | None = Field(None, description="the first op whose result differs; null: none does")
    loss: float | None = Field(None, description="how far the last losses are apart")
    holds_parameters: bool = Field(False, description="an optimizer holds parameters, so that `end` is about them")
    not_finite_from: int | None = Field(None, description="the op from which on losses are not finite")
    growth: tuple[float, float] | None = Field(None, description="of the difference, where it is inherited: at the beginning, at the end")


class Shadowed(Model):
    """A run in which each op was recomputed in higher precision, or on another device."""

    run: str
    reference: str
    ops: int = 0
    first: OpError | None = Field(None, description="the first op that exceeds its error bound")
    most: list[OpError] = Field([], description="the ops that were off most")
    unmeasured: dict[str, int] = Field({}, description="ops that were not recomputed and why, and how often they ran")
    lines_off: int = Field(0, description="lines with such ops")


class Relation(Model):
    """How the values of one name differ from those of its counterpart."""

    kind: Literal["equal", "factor", "offset", "sign", "transpose", "permutation", "rounding", "lag", "growing", "other"]
    value: float | None = Field(None, description="the factor, the offset, the growth from one occurrence to the next")
    meaning: Reasons = Field([], description="what that can mean here")


class Occurrence(Model):
    """One of the values that a name had."""

    step: int
    occurrence: int


class NamePair(Model):
    """A name of one program and its counterpart in the other."""

    a: str
    b: str
    line_a: int | None = None
    line_b: int | None = None
    file_a: str | None = None
    file_b: str | None = None
    around_a: list[tuple[int, str]] = Field([], description="lines of the first program around the difference, with their numbers")
    around_b: list[tuple[int, str]] = []
    agrees: bool
    first: Occurrence | None = Field(None, description="the first occurrence that is not the same but for rounding")
    digits: float | None = Field(None, description="decimal digits in which they agree, at the worst occurrence")
    relation: Relation | None = Field(None, description="of the values")
    update: Relation | None = Field(None, description="of their changes from one occurrence to the next")
    follows: str | None = Field(None, description="the name `a` of the earlier pair whose difference explains this one")
    how: Literal["name", "value", "map"] = Field("name", description="by what they were found to be counterparts")
    occurrences: int = 0
    errors: list[tuple[int, float]] = Field([], description="occurrence and relative error, at most 200 points")


class Loss(Model):
    """The loss with which a backward pass began, in both runs; a text where it is not finite."""

    step: int
    a: float | str
    b: float | str
    final: bool = Field(False, description="it is the last of both runs")


class PrintedMetric(Model):
    """A number of one name, as both runs printed it, and the line of the output."""

    name: _Said
    a: str
    b: str
    line: int


class Printed(Model):
    """The metrics that two runs printed in lines which are the same but for their numbers."""

    compared: int
    differing: int
    names: list[_Said] = []
    last: list[PrintedMetric] = Field([], description="the last of each name that differs")


class Failure(Place):
    """How a script failed in both runs in the same way; the line is the last of the user's in its traceback."""

    error: _Said | None = None
    steps: int = Field(0, description="steps that both runs had taken")
    around: list[tuple[int, str]] = Field([], description="the line with those around it, each with its number; empty: not known")


class Effect(Model):
    """What the difference between two runs does to the numbers that a user looks at."""

    runs: list[str]
    loss: Loss | None = Field(None, description="the last loss that both have")
    loss_from: int | None = Field(None, description="the first step whose loss differs")
    parameters_from: int | None = Field(None, description="the first step after which parameters differ")
    printed: Printed | None = None


class Revision(Model):
    """The commit that the script was run from."""

    commit: str
    dirty: bool | None = Field(None, description="files under version control, or the script, were changed; null: not known")


class Provenance(Model):
    """When, from what, and with which software the first run was made."""

    date: str | None = Field(None, description="when it began, ISO 8601, UTC")
    revision: Revision | None = None
    versions: dict[str, str] = {}
    machine: dict[str, str | int] = Field({}, description="system, processor and cores; its name only where that is wished")
    environment: dict[str, str] = Field({}, description="variables that can change numbers, without credentials")


class RuleText(Model):
    """What a rule says of itself, so that a report needs no rule files."""

    title: str
    why: str
    instead: str | None = None
    references: list[str] = []


#: Number of the format of the file; it grows when the meaning of an existing key changes.
FORMAT = 1


class Audit(Model):
    """All that one invocation concluded."""

    format: int = FORMAT
    verdict: Verdict
    script: Annotated[list[str], AfterValidator(redacted_words)]
    runs: list[RunOutcome]
    divergence: Divergence | None = None
    others: list[Divergence] = Field([], description="first divergences of other lanes")
    effect: Effect | None = Field(None, description="of the divergence; without one of what the first two runs agree in")
    side: list[Divergence] = Field([], description="differences that are shown to reach no part of the training")
    causes: list[Cause] = []
    explained_by: Explanation | None = Field(None, description="the finding that explains the divergence, if one does")
    search: Search | None = None
    devices: list[DeviceComparison] = []
    shadow: Shadowed | None = None
    names: list[NamePair] = Field([], description="for two programs: their named values, in order of execution")
    unaligned: list[Reason] = Field([], description="for two programs: names without a counterpart, and why")
    findings: list[Finding] = []
    rules: dict[str, RuleText] = Field({}, description="the rules that made findings, by name")
    provenance: Provenance | None = None
    environment: list[EnvironmentDifference] = []
    coverage: Coverage = Coverage()
    notes: list[Reason] = []
    failure: Failure | None = Field(None, description="for `inconclusive`: how the script failed in both runs in the same way, if it did")
    reason: Reason | None = Field(None, description="for `inconclusive`: why")
    version: str = ""
