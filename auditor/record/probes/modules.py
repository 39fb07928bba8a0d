"""Which module is running, told by `Module.__call__` itself; and what a checkpoint has left out of a module.

Global forward hooks would do too, but they send every call through torch's slow path, where tracebacks have other lines. When Dynamo is
about to compile, what we put into `__call__` is taken out again, because it would be traced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record.core.leaves import held, parts_of
from auditor.record.imports import when_imported
from auditor.record.probes import Probe
from auditor.record.wrapping import bracket, telling

if TYPE_CHECKING:
    from auditor.record.process import Process

#: Names of tensors that a checkpoint and a module do not have in common, of each of the two.
_NAMES_TOLD = 20
#: Parameters that a checkpoint left as they were of which is told who wrote them.
_MOST_LEFT = 1000


def install_torch(process: Process, torch: Any) -> None:
    """Bracket `Module.__call__`."""

    def entered(called: Any) -> None:
        local = process.local
        if local.level is not process.level and process.modes:
            process.modes.follow()
        core = (local.lane and local.lane.core) or (process.modes and process.modes.core())
        if core:
            core.enter_module(called)

    def left(called: Any) -> None:
        lane = process.local.lane
        if lane is not None and lane.core is not None:
            lane.core.leave_module(called)

    def loaded(result: Any, module: Any, state: Any, *args: Any, **kwargs: Any) -> None:
        """What a checkpoint that need not fit has left out; where it must, torch raises an error."""
        missing, unexpected = getattr(result, "missing_keys", ()), getattr(result, "unexpected_keys", ())
        if not kwargs.get("strict", args[0] if args else True) and (missing or unexpected):
            lane, names = process.lane(), set(missing)
            own = {f"{path}.{name}"[1:]: part for path, inner in parts_of(module, "") for name, part in held(inner, "_parameters")}
            left = [part for name, part in own.items() if name in names][:_MOST_LEFT]
            written = [lane.core.producer_of(part) for part in left] if lane.core is not None else []
            lane.event(
                "loaded", name=type(module).__name__, given=len(state), missing=len(missing), unexpected=len(unexpected),
                missing_names=[str(key) for key in missing[:_NAMES_TOLD]],
                unexpected_names=[str(key) for key in unexpected[:_NAMES_TOLD]], written=written,
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


PROBE = Probe(install_torch=install_torch)
