"""Whether two runs of a script can be made at the same time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence

from auditor.pipeline.devices import devices_of
from auditor.plan import Plan
from auditor.trace.reader import Trace


def must_be_alone(controls: Sequence[Trace], plan: Plan, copied: bool) -> bool:
    """Whether two runs at the same time could get in each other's way: ranks that meet at a port, a device, files that both write.

    What is `copied` each has to itself, and of temporary files only those that all controls wrote have a fixed name.
    """
    if any(lane.key.rank is not None for run in controls for lane in run.lanes.values()):
        return True
    if any(device.startswith("cuda") for run in controls for device in devices_of(run)):
        return True
    if ports_of(controls):
        return True
    temporary = tempfile.gettempdir() + os.sep
    written = [set(_written(run, plan, copied)) for run in controls]
    return bool(set.intersection(*written)) or any(not path.startswith(temporary) for paths in written for path in paths)


def ports_of(controls: Sequence[Trace]) -> list[str]:
    """The ports at which all controls met others; one that is free when it is asked for is another one in each run."""
    return sorted(set.intersection(*(set(run.meta.get("ports") or ()) for run in controls)))


def _written(run: Trace, plan: Plan, copied: bool) -> Iterator[str]:
    """Files that a run wrote, but those in the working directory where that is `copied`."""
    for lane in run.lanes.values():
        for event in lane.events_of("file"):
            path = os.path.join(plan.cwd, event["path"])  # noqa: PTH118  # it may be absolute
            inside = os.path.commonpath([path, plan.cwd]) == plan.cwd if path.startswith("/") else False
            if event.get("op") == "write" and not (copied and inside):
                yield path
