"""Numbers for the paths of modules: a module is named when it is called first, with all that it holds."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from auditor.record.core.leaves import Leaves, forget, parts_of

if TYPE_CHECKING:
    from auditor.record.lane import Lane

_MOST = 0xFFFF


class ModulePaths:
    """Numbers of a lane's module paths; `known` maps `id(module)` to the module's weak reference and number.

    By identity, because `==` and `hash` of a module may be the user's.
    """

    def __init__(self, lane: Lane, leaves: Leaves) -> None:
        self.lane = lane
        self.leaves = leaves
        self.known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._ids: dict[str, int] = {}

    def learn(self, called: Any, outermost: bool) -> tuple[weakref.ref[Any], int]:
        """Name a module that is called for the first time and, if no other is running, all that it holds."""
        top = type(called).__name__
        if outermost:
            for path, child in parts_of(called, top):
                if child is not called and not self._is_known(child):
                    self._note(child, path)
            self.leaves.held_by(called, top)
        return self._note(called, top)

    def _is_known(self, module: Any) -> bool:
        found = self.known.get(id(module))
        return found is not None and found[0]() is module

    def _note(self, module: Any, path: str) -> tuple[weakref.ref[Any], int]:
        number = self._ids.get(path, 0)
        if not number and len(self._ids) < _MOST:
            number = self._ids[path] = self.lane.define("module", {"path": path, "class": type(module).__name__})
        known, key = self.known, id(module)
        found = known[key] = (weakref.ref(module, lambda reference: forget(known, key, reference)), number)
        return found
