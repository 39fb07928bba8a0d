"""What cannot be redirected, said once each; and who asks: the auditor's own code, a library's, or the user's."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from auditor.record import wrapping
from auditor.record.callsite import is_user_code
from auditor.record.wrapping import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.process import Process

OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "")
#: What the recorder watches is called through a stand-in of its own: then it is not the recorder that calls.
_STAND_INS = os.path.abspath(wrapping.__file__)


class LostEvents:
    """Writes `lost` events, each sentence once a process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._said: set[str] = set()

    def lost(self, what: str) -> None:
        """Say what this run leaves out because of the device that it was put on."""
        if what not in self._said:
            self._said.add(what)
            self._process.lane().line({"k": "lost", "what": what, "count": 1})


def in_place_of(original: Any, body: Callable[..., Any], ours: bool = True) -> Any:
    """A function that runs `body` where the script or a library calls, and `original` where the auditor does, unless not `ours`.

    No frame of ours stays in the traceback of what it raises.
    """
    if not ours:
        return stand_in(original, body)

    def chosen(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(2).f_code.co_filename
        if caller.startswith(OURS) and caller != _STAND_INS:
            return original(*args, **kwargs)
        return body(*args, **kwargs)

    chosen._repro_audit_body = body  # type: ignore[attr-defined]  # for `body_of`
    return stand_in(original, chosen)


def property_in_place_of(original: Any, body: Callable[[Any], Any]) -> property:
    """The same for a property; `body` is given the object, and may ask `original.__get__` itself."""
    return property(in_place_of(original.__get__, body), doc=getattr(original, "__doc__", None))


def by_the_script(depth: int = 2) -> bool:
    """Whether the nearest frame that is not the auditor's is of the user's code."""
    frame: Any = sys._getframe(depth)
    while frame is not None and frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    return frame is not None and is_user_code(frame.f_code.co_filename)


def calling_module(depth: int = 2) -> str:
    """Name of the module that the nearest frame is of, without the auditor's and those through which torch dispatches."""
    frame: Any = sys._getframe(depth)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if not frame.f_code.co_filename.startswith(OURS) and name not in ("torch._ops", "torch.utils._device", "torch.overrides"):
            return name
        frame = frame.f_back
    return ""
