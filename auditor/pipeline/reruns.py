"""Makes the runs of one audit, one after the other or two at a time."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from auditor import plugins
from auditor.launch import Progress, Stdin, launch, outcome
from auditor.plan import Plan
from auditor.progress import write_all
from auditor.report.words.reasons import text_of
from auditor.results import Reason
from auditor.trace.reader import Trace

#: Runs at once: more would compete for the cores that the script's own ops are split among.
_AT_ONCE = 2


class Silent:
    """A screen that passes the script's output on and shows nothing of ours."""

    def output(self, stream: int, data: bytes) -> None:
        """Write to our own stdout or stderr."""
        write_all(stream, data)

    def progress(self, progress: Progress) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""


#: The folder, among the runs of an audit, of code that was compiled for runs that compute otherwise than usual.
CACHES = "compiled"


class RunRequest(NamedTuple):
    """A run to be made."""

    plan: Plan
    name: str
    role: str


class Reruns:
    """The runs of one audit, in the order in which they were asked for; the first shows what the script prints, the others do not."""

    def __init__(self, folder: Path, screen: Any, quiet: bool = False) -> None:
        self.folder = folder
        self.screen = screen
        self._quiet = quiet
        self.made: list[Trace] = []
        self.notes: list[Reason] = []
        self.may_be_together = False
        self._stdin = Stdin()

    def one(self, plan: Plan, name: str, role: str) -> Trace:
        """Make one run."""
        self.screen.say(f"{name}: {' '.join(plan.script)}")
        trace = self._launched(RunRequest(plan, name, role), self.screen, self._stdin)
        self.made.append(trace)
        return trace

    def several(self, requests: Sequence[RunRequest], question: Reason) -> list[Trace]:
        """Make runs that have nothing to do with one another, two at a time if that does no harm."""
        self.screen.say(f"{', '.join(request.name for request in requests)}: {text_of(question)}")
        traces: list[Trace] = []
        for k in range(0, len(requests), _AT_ONCE):
            traces += self._some(requests[k : k + _AT_ONCE])
        self.made += traces
        return traces

    def _some(self, requests: Sequence[RunRequest]) -> list[Trace]:
        others = [self._stdin.for_concurrent_run() for _ in requests[1:]]
        if len(requests) == 1 or None in others or not self.may_be_together or (os.cpu_count() or 1) < _AT_ONCE:
            return [self._launched(request, self.screen, self._stdin) for request in requests]
        traces = self._at_once(requests, [self._stdin, *others])
        usual = {trace.meta.get("exit") for trace in self.made if trace.meta.get("role") == "control"}
        if all(_as_usual(trace, usual) for trace in traces):
            return traces
        # It may be that two of them want one port, one lock or one file.
        for request in requests:
            shutil.rmtree(self.folder / request.name, ignore_errors=True)
        alone = [self._launched(request, self.screen, self._stdin) for request in requests]
        if all(_as_usual(trace, usual) for trace in alone):
            self.may_be_together = False
            self.notes.append(Reason.of("not-at-once"))
        return alone

    def _at_once(self, requests: Sequence[RunRequest], stdins: Sequence[Stdin | None]) -> list[Trace]:
        stop = threading.Event()
        with ThreadPoolExecutor(len(requests)) as pool:
            screens = [self.screen, *(Silent() for _ in requests[1:])]  # one status line says how far they are
            futures = [
                pool.submit(self._launched, request, screen, stdin, stop)
                for request, screen, stdin in zip(requests, screens, stdins, strict=True)
            ]
            try:
                return [future.result() for future in futures]
            except BaseException:
                stop.set()
                raise

    def _usual(self) -> float | None:
        """How long a whole run takes; None while none has come to its end."""
        whole = [trace.meta for trace in self.made if trace.meta.get("role") == "control" and not trace.meta.get("stopped")]
        return max((float(meta["seconds"]) for meta in whole if meta.get("seconds") is not None), default=None)

    def _launched(self, request: RunRequest, screen: Any, stdin: Stdin | None, stop: threading.Event | None = None) -> Trace:
        launch(
            with_own_caches(request.plan, self.folder / CACHES),
            self.folder / request.name,
            request.name,
            request.role,
            screen,
            stdin,
            quiet=self._quiet or bool(self.made),
            stop=stop,
            usual=self._usual(),
        )
        return Trace(self.folder / request.name)


def with_own_caches(plan: Plan, folder: Path) -> Plan:
    """The plan with caches of compiled code of its own, where numbers are computed otherwise than usual in it.

    What was compiled for one instruction set need not run on another, and nothing of it is to stay in the user's cache.
    """
    factors = plugins.factors()
    how = [f"{what}-{name}" for what, names in (("pin", plan.pinned), ("vary", plan.varied)) for name in names if factors[name].common]
    if plan.device.variables:
        how.append(plan.device.name)
    if not how:
        return plan
    own = folder / "+".join(sorted(how)).replace(":", "-")
    return plan.with_environment(TORCHINDUCTOR_CACHE_DIR=str(own / "inductor"), TRITON_CACHE_DIR=str(own / "triton"))


def _as_usual(trace: Trace, usual: Collection[int | None]) -> bool:
    """Whether a run ended as the controls do, or was ended because it had shown enough."""
    if trace.meta.get("stopped") == "stalled":
        return False
    return trace.meta.get("exit") in usual or bool(outcome(trace).stopped)
