"""Puts a run on a device other than the one that its script names; and makes random numbers equal on all of them.

**What it owns.** The setting `device`: `{"kind": "cpu"}` lets a script that says `cuda` run on the CPU (`pretend.py`, and `cuda_names.py`
for what `torch.cuda` answers); `{"kind": "cuda", "index": 1}` lets a script written for the CPU run there (`move.py`); on any device
but the CPU random numbers are drawn on the CPU and moved (`draws.py`). `"pretended": true` puts the move on top of the pretence;
`"available": false` tells a script that asks that there is no GPU, `"mkldnn": false` switches oneDNN off.

**What it must never do.** Touch a run without that setting; import torch before the script does; raise anything but what torch itself
raises there; leave a frame of its own in a traceback.

**The order of the modes.** The pretence lies lowest, then the draws or the move, and the recorder above them: it records the ops that
the script asked for. Our own code is told the truth: the stand-ins look who calls, and where the auditor does they are torch's functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record.redirect import draws, move, pretend
from auditor.record.redirect.lost_events import LostEvents

if TYPE_CHECKING:
    from auditor.record.process import Process


def install_torch(process: Process, torch: Any) -> None:
    """Install what the setting `device` asks for; nothing without it."""
    wanted = process.settings.get("device")
    if not wanted:
        return
    if wanted.get("mkldnn") is False:
        torch._C._set_mkldnn_enabled(False)  # there is no variable for it
    told = LostEvents(process)
    modes: list[Any] = []
    pretended = wanted["kind"] == "cpu" or wanted.get("pretended")
    if pretended:
        modes.append(pretend.install(process, torch, told, wanted.get("available", True)))
    if wanted["kind"] == "cpu":
        process.enter_redirection = _enters(modes)
    else:
        device = torch.device(wanted["kind"], wanted.get("index") or 0)
        if not pretended:
            modes.append(draws.install(torch, told, lambda where: where.type != "cpu"))
        modes.append(move.install(process, torch, told, device, fixed=wanted.get("index") is not None, pretended=bool(pretended)))
        process.enter_redirection = _enters(modes)
    process.enter_redirection()


def _enters(made: list[Any]) -> Any:
    def enter() -> list[Any]:
        modes = [make() for make in made]
        for mode in modes:
            mode.__enter__()
        return modes

    return enter
