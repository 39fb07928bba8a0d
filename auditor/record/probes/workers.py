"""DataLoader workers, forked or spawned: they say which worker they are, and close their files before `os._exit`.

Also where the script puts memory at the disposal of other processes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from auditor.record.imports import when_imported
from auditor.record.probes import Probe
from auditor.record.wrapping import position_of, stand_in, telling

if TYPE_CHECKING:
    from auditor.record.process import Process

_MOST_TOLD = 1000


def install(process: Process) -> None:
    """Watch the loop that a worker runs, and the end of every child of multiprocessing."""
    when_imported("torch.utils.data._utils.worker", lambda module: _install_loop(process, module))
    when_imported("multiprocessing.util", lambda module: _install_ends(process, module))


def install_torch(process: Process, torch: Any) -> None:
    """Note the lines that share tensors; `Module.share_memory` does it tensor by tensor."""
    told: set[tuple[int, int]] = set()

    def shared(*_args: Any) -> None:
        lane = process.lane()
        place = lane.base, lane.sites.site_of(sys._getframe(2))
        if place not in told and len(told) < _MOST_TOLD:
            told.add(place)
            lane.event("shared")

    torch.Tensor.share_memory_ = telling(torch.Tensor.share_memory_, shared)


def _install_loop(process: Process, worker: Any) -> None:
    loop = worker._worker_loop
    position = position_of(loop, "worker_id")

    def begun(*args: Any, **kwargs: Any) -> None:
        process.becomes(worker=kwargs.get("worker_id", args[position] if position < len(args) else None))

    worker._worker_loop = telling(loop, begun)


def _install_ends(process: Process, util: Any) -> None:
    def said(*_args: Any) -> None:
        if sys._getframe(2).f_code.co_name == "_bootstrap":  # a child, which knows by now which of its parent's it is
            process.becomes()

    util.info = telling(util.info, said)
    leave = util._exit_function

    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            return leave(*args, **kwargs)
        finally:
            if process.parent or process.role.get("worker") is not None:
                process.close()

    util._exit_function = stand_in(leave, watched)


PROBE = Probe(install, install_torch)
