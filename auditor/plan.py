"""What to run, how to watch it and what to judge it by, as values: each `with_...` of a plan returns a new one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from auditor.redaction import redacted_variables, redacted_words

LEVELS = ("off", "steps", "ops")
EFFORTS = ("compare", "explain", "full")
#: Variables by which the user says how OpenMP's threads wait; the first is everybody's, the others are GNU's and Intel's.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@dataclass(frozen=True)
class Watch:
    """A window of one lane in which a rerun looks closely: record positions, both ends included."""

    lane: str
    first: int
    last: int
    identity: list[int] | None = None


@dataclass(frozen=True)
class Recording:
    """What of a run is recorded, and what reruns look at more closely."""

    level: str = "ops"
    window: tuple[int, int] | None = None
    """Steps in which ops are recorded, and steps only elsewhere."""
    watch: tuple[Watch, ...] = ()
    """Windows in which values are captured."""
    to_the_end: bool = False
    """Whether such a run goes to the end of the script, and not just behind the windows."""
    finite: bool = False
    """Every result is asked whether it is finite."""
    sketch: bool = False
    """Sketches of all tensors are recorded, so that the run can be compared with one on another device."""
    shadow: str = ""
    """Each op is recomputed in this dtype (`float64`) or on this device, and its error measured against `tolerances`."""
    tolerances: tuple[Any, ...] = ()
    """Rules of how far an op may be off, as JSON values."""
    names: bool = False
    """The values that the script gives to names are recorded, and no ops."""
    first_whole: bool = False
    """Of each name the first value is kept whole, so that another run can begin with it."""
    share: tuple[str, tuple[tuple[str, str], ...]] | None = None
    """Directory of a run, and pairs of names: what the first had there is what the second has first here."""

    def settings(self) -> dict[str, Any]:
        """What the recorder in the child is told of it."""
        settings: dict[str, Any] = {"level": self.level, "window": self.window}
        if self.window is not None:
            settings["level"] = "ops" if self.window[0] <= 0 < self.window[1] else "steps"
        observers: dict[str, Any] = {}
        if self.watch:
            observers["value-capture"] = {"windows": [asdict(window) for window in self.watch], "to_the_end": self.to_the_end}
        if self.finite:
            observers["nonfinite"] = {}
        if self.sketch:
            observers["sketches"] = {}
        if self.shadow:
            observers["shadow"] = {"as": self.shadow, "tolerances": list(self.tolerances)}
        if observers:
            settings["observers"] = observers
        if self.names:
            settings["named_values"] = {"first": self.first_whole}
        if self.share is not None:
            settings["share"] = {"from": str(Path(self.share[0]).resolve()), "pairs": [list(pair) for pair in self.share[1]]}
        return settings


@dataclass(frozen=True)
class WorkingCopy:
    """How a run is made in a copy of the working directory; nothing of it: in place."""

    leftovers: str = ""
    """`pin`: made in a copy of `cwd`; `vary`: in one without `outputs`."""
    before: str | None = None
    """The copy of `cwd` that such a run begins with; None: as it is when the run begins."""
    outputs: tuple[str, ...] = ()
    """What runs write anew of what was there."""
    patches: tuple[tuple[str, str], ...] = ()
    """Files that have another text in the copy: path relative to `cwd`, text."""
    copies: tuple[tuple[str, str], ...] = ()
    """Of a run that is in the copy: paths that stand for others, and these others; the longer before the shorter."""
    at_home: tuple[str, tuple[str, ...]] | None = None
    """Of a run that is in the copy: the user's `cwd` and `script`."""


@dataclass(frozen=True)
class OnDevice:
    """On which device a run is made; nothing of it: wherever the script computes."""

    name: str = ""
    """What `--devices` calls it."""
    variables: tuple[tuple[str, str], ...] = ()
    """What it needs in the environment; a factor that sets the same has its way."""
    within: tuple[tuple[str, Any], ...] = ()
    """What the recorder does about it."""


@dataclass(frozen=True)
class Plan:
    """One run to be made.

    `script` is what the user would type after `python`: `["train.py", "--lr", "0.1"]` or `["-m", "pkg.train"]`.
    """

    script: tuple[str, ...]
    cwd: str = field(default_factory=os.getcwd)
    python: str = sys.executable
    environment: tuple[tuple[str, str], ...] = ()
    steps: int | None = None
    timeout: float | None = None
    pinned: tuple[str, ...] = ()
    varied: tuple[str, ...] = ()
    within: tuple[tuple[str, str], ...] = ()
    """Factors that have something to do in the child, and whether they `pin`, `vary` or `watch` there."""
    fixed_addresses: bool = False
    recording: Recording = Recording()
    copy: WorkingCopy = WorkingCopy()
    device: OnDevice = OnDevice()

    @property
    def command(self) -> list[str]:
        """The command line of the child process."""
        return [self.python, *self.script]

    def with_environment(self, **variables: str) -> Plan:
        """The same plan with these variables set in the child."""
        return replace(self, environment=(*self.environment, *sorted(variables.items())))

    @property
    def variables(self) -> dict[str, str]:
        """What is set in the environment of the child, beside what it inherits."""
        return dict(self.device.variables) | dict(self.environment)

    def variable(self, name: str) -> str | None:
        """An environment variable as the child will find it."""
        return self.variables.get(name, os.environ.get(name))

    def with_factors(self, pinned: tuple[str, ...], varied: tuple[str, ...], within: tuple[tuple[str, str], ...]) -> Plan:
        """The same plan, saying which factors are pinned and varied."""
        return replace(self, pinned=pinned, varied=varied, within=within)

    def with_fixed_addresses(self) -> Plan:
        """The same plan, with memory at the same addresses in every run."""
        return replace(self, fixed_addresses=True)

    def with_leftovers(self, how: str) -> Plan:
        """The same plan in a copy of the working directory: `pin`, or `vary` for one without the files that runs write."""
        return replace(self, copy=replace(self.copy, leftovers=how))

    def with_before(self, folder: str, outputs: tuple[str, ...] = ()) -> Plan:
        """The same plan, with what its working directory held before the first run, and which of that the runs wrote anew."""
        return replace(self, copy=replace(self.copy, before=folder, outputs=outputs))

    def with_patches(self, *patches: tuple[str, str]) -> Plan:
        """The same plan in a copy of the working directory in which these files have these texts."""
        return replace(self, copy=replace(self.copy, patches=patches))

    def with_watch(self, *watch: Watch, to_the_end: bool = False) -> Plan:
        """The same plan, looking closely at these windows; it ends at the first step behind them, or goes to the end of the script."""
        return self._recorded(watch=watch, to_the_end=to_the_end)

    def with_finite(self, steps: int) -> Plan:
        """The same plan for this many steps, in which every result is asked whether it is finite."""
        return replace(self._recorded(finite=True), steps=steps)

    def with_level(self, level: str, window: tuple[int, int] | None = None) -> Plan:
        """The same plan recorded at another level; with a window, at level `ops` within these steps only."""
        return self._recorded(level=level, window=window)

    def with_device(self, name: str, variables: tuple[tuple[str, str], ...], within: dict[str, Any]) -> Plan:
        """The same plan on another device: what that needs in the environment, and what the recorder does about it."""
        return replace(self, device=OnDevice(name, variables, tuple(within.items())))

    def with_sketches(self) -> Plan:
        """The same plan, recording a sketch of each tensor."""
        return self._recorded(sketch=True)

    def with_shadow(self, reference: str, tolerances: Sequence[Any]) -> Plan:
        """The same plan, recomputing each op in the dtype, or on the device, `reference`."""
        # Between our short passes over tensors OpenMP's threads spin, which takes up to five times as long where other work has the cores.
        patient = () if any(map(self.variable, _WAITING)) else (("OMP_WAIT_POLICY", "passive"),)
        plan = self._recorded(shadow=reference, tolerances=tuple(tolerances))
        return replace(plan, device=replace(self.device, variables=(*self.device.variables, *patient)))

    def with_names(self, share: tuple[str, Sequence[tuple[str, str]]] | None = None, first_whole: bool = False) -> Plan:
        """The same plan, recording named values instead of ops.

        `share`: the directory of a run with `first_whole`, and pairs of a name there and a name here that begins with its first value.
        """
        given = None if share is None else (share[0], tuple((a, b) for a, b in share[1]))
        return self._recorded(level="steps", window=None, names=True, first_whole=first_whole, share=given)

    def _recorded(self, **changes: Any) -> Plan:
        return replace(self, recording=replace(self.recording, **changes))

    def recorder_settings(self) -> dict[str, Any]:
        """What the recorder in the child is told, besides where to write."""
        settings = self.recording.settings() | {"steps": self.steps}
        if self.device.within:
            settings["device"] = dict(self.device.within)
        if self.within:
            settings["factors"] = [list(entry) for entry in self.within]
        return settings

    def as_json(self) -> dict[str, Any]:
        """The plan as it is kept in run.json, in one level: of the user's own folder, wherever the run is made."""
        facts = asdict(self)
        device = facts.pop("device")
        facts |= facts.pop("recording") | facts.pop("copy")
        facts |= {"device": device["name"], "device_variables": device["variables"], "within_device": device["within"]}
        facts["cwd"], facts["script"] = facts.pop("at_home") or (self.cwd, self.script)
        facts["script"] = redacted_words(facts["script"])
        for name in ("environment", "device_variables"):
            facts[name] = list(redacted_variables(dict(facts[name])).items())
        del facts["tolerances"]
        return facts


@dataclass(frozen=True)
class Selection:
    """Which rules judge a run, and which of their findings the user has accepted.

    `folders` are the user's own rules, beside those that are shipped. `select` and `ignore` are names of rules (globs) or tags; nothing
    selected means all.
    """

    folders: tuple[Path, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    baseline: Path | None = None
    write_baseline: Path | None = None


@dataclass(frozen=True)
class AuditOptions:
    """How far an audit goes. `runs`: controls.

    `effort`: `compare` makes no run beside these; `explain` looks closely at a difference and searches for what makes it, and leaves it at
    that if there is none; `full` also varies what should make no difference then. Factors in `pin` are held still in every run; those in
    `vary` are varied in the place of all that can be. `fix`: look for a change of the script that cures a cause, and write it down;
    `apply`: make it. `devices`: names of devices to compare, with commas; nothing: the one that the script computes on with the CPU, where
    it is another. `shadow`: recompute each op in this dtype or on this device. `strict`: a difference that reaches no part of the training
    counts too.
    """

    runs: int = 2
    effort: str = "full"
    pin: tuple[str, ...] = ()
    vary: tuple[str, ...] = ()
    fix: bool = False
    apply: bool = False
    devices: str = ""
    shadow: str = ""
    strict: bool = False

    @property
    def explains(self) -> bool:
        """Whether a difference is looked at closely, and what makes it is searched for."""
        return self.effort != "compare"

    @property
    def varies(self) -> bool:
        """Whether what should make no difference is varied where the runs agree."""
        return self.effort == "full"
