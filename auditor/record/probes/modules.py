"""Which module is running, told by `Module.__call__` itself; and what a checkpoint has left out of a module.

Global forward hooks would do too, but they send every call through torch's slow path, where tracebacks have other lines. When Dynamo is
about to compile, what we put into `__call__` is taken out again, because it would be traced.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.imports import when_imported
from auditor.record.probes.leaves import Leaves, forget, held, parts_of
from auditor.record.probes.wrapping import bracket, telling

if TYPE_CHECKING:
    from auditor.record.lane import Lane
    from auditor.record.process import Process

_MOST = 0xFFFF
#: Names of tensors that a checkpoint and a module do not have in common, of each of the two.
_NAMES_TOLD = 20
#: Parameters that a checkpoint left as they were of which is told who wrote them.
_MOST_LEFT = 1000


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


def install_torch(process: Process, torch: Any) -> None:
    """Bracket `Module.__call__`."""

    def entered(called: Any) -> None:
        try:
            handler = process.local.lane.handler or process.handler()
        except AttributeError as error:  # a thread that had no event yet
            if interrupts(error):
                raise
            handler = process.handler() if process.handler else None
        if handler is not None:
            handler.enter_module(called)

    def left(called: Any) -> None:
        try:
            handler = process.local.lane.handler
        except AttributeError:
            return
        if handler is not None:
            handler.leave_module(called)

    def loaded(result: Any, module: Any, state: Any, *args: Any, **kwargs: Any) -> None:
        """What a checkpoint that need not fit has left out; where it must, torch raises an error."""
        missing, unexpected = getattr(result, "missing_keys", ()), getattr(result, "unexpected_keys", ())
        if not kwargs.get("strict", args[0] if args else True) and (missing or unexpected):
            lane, names = process.lane(), set(missing)
            own = {f"{path}.{name}"[1:]: part for path, inner in parts_of(module, "") for name, part in held(inner, "_parameters")}
            left = [part for name, part in own.items() if name in names][:_MOST_LEFT] if lane.handler is not None else []
            lane.event(
                "loaded", name=type(module).__name__, given=len(state), missing=len(missing), unexpected=len(unexpected),
                missing_names=[str(key) for key in missing[:_NAMES_TOLD]],
                unexpected_names=[str(key) for key in unexpected[:_NAMES_TOLD]], written=[lane.handler.producer_of(part) for part in left],
            )  # fmt: skip

    torch.nn.Module.load_state_dict = telling(torch.nn.Module.load_state_dict, loaded, after=True)
    undo = [bracket(torch.nn.Module.__call__, entered, left)]

    def compiling(*_args: Any, **_kwargs: Any) -> None:
        if undo:
            undo.pop()()
            process.lane().line({"k": "lost", "what": "module paths, and ops inside compiled code: torch.compile was used", "count": 1})

    def dynamo_imported(eval_frame: Any) -> None:
        eval_frame.OptimizeContext.__init__ = telling(eval_frame.OptimizeContext.__init__, compiling)

    when_imported("torch._dynamo.eval_frame", dynamo_imported)
