"""Updates: the end of an optimizer's step or, in a script without an optimizer, of a backward pass and what follows it.

At each update the parameters, gradients and optimizer state are digested as three numbers, together with the loss and the random streams
that were used. Which updates make one step, a turn of the training loop, is found out in `trace/turns.py`: by the reader for good, and
here as far as one can know. Here the level of recording can change, and here a script that was asked for N steps ends.
"""

from __future__ import annotations

import sys
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from auditor.record import digest
from auditor.record.callsite import STEP
from auditor.record.core.protocol import Level
from auditor.record.imports import when_imported
from auditor.record.probes import Probe, torch_rng
from auditor.record.wrapping import telling, telling_of_a_change
from auditor.trace.turns import LONGEST

if TYPE_CHECKING:
    from auditor.record.process import Process

#: Tensors of one optimizer that are told by name.
_MOST_TOLD = 5_000


def install_torch(process: Process, torch: Any) -> None:
    """Register the global hooks that torch has for this."""
    most = process.settings.get("steps")
    counted_only = process.settings.get("named_values") is not None  # the names' own values are recorded, and each step is to cost little
    window = process.settings.get("window")
    state = {"optimizers": 0, "met": 0}
    born: dict[int, tuple[weakref.ref[Any], Any, int, int]] = {}  # id -> the optimizer, the lane that made it, its updates then, where
    waiting: dict[int, weakref.ref[Any]] = {}  # optimizers that were made and have not stepped yet
    optimizers: dict[int, tuple[weakref.ref[Any], int, int]] = {}  # id -> the optimizer, its number, how many tensors it held when told of

    def number_of(lane: Any, optimizer: Any) -> int:
        """Number of an optimizer; what it holds is told when it is met first and when it has got more."""
        groups = optimizer.param_groups
        size = len(groups[0]["params"]) if len(groups) == 1 else sum([len(group["params"]) for group in groups])
        key = id(optimizer)
        found = optimizers.get(key)
        known = found is not None and found[0]() is optimizer
        if found is not None and known and found[2] == size:
            return found[1]
        if found is not None and known:
            number = found[1]
        else:
            state["met"] = number = state["met"] + 1
        optimizers[key] = (weakref.ref(optimizer), number, size)
        if lane.core is not None:
            parameters = [p for group in groups for p in group["params"]]
            with digest.Unseen():
                told = [lane.core.name_leaf(p) for p in parameters[:_MOST_TOLD] if p.requires_grad]  # frozen ones wait for no gradient
            names, written = [name for name, _ in told], [row for _, row in told]
            lane.event("optimizer", False, number=number, name=type(optimizer).__name__, leaves=names, written=written)
        return number

    def is_waiting() -> bool:
        """Whether an optimizer lives that has not stepped yet."""
        return any(reference() is not None for reference in waiting.values())

    def begins(lane: Any, optimizer: Any, frame: Any) -> dict[str, object]:
        """Count an update; what of it is written down when it is done. Ends the script where it begins a step more than was asked for."""
        number, place = lane.places.of(frame)
        by, made, born_at = 0, 0, 0
        if optimizer is None:
            by = -number  # a backward pass is known by where it is called
        else:
            by = number_of(lane, optimizer)
            waiting.pop(id(optimizer), None)
            found = born.get(id(optimizer))
            if found is not None and found[0]() is optimizer and found[1] is lane:
                _, _, made, born_at = found
        count = lane.turns.add(by, made, place)
        facts: dict[str, object] = {"by": by, "made": made, "born": born_at, "place": number}
        if most and count > most and not is_open(lane, place):
            stop(lane, "steps", most, facts)
        return facts

    def is_open(lane: Any, place: Any) -> bool:
        return bool(lane.turns.is_open(place, is_waiting())) and lane.turns.updates <= (most or 0) + LONGEST

    def stop(lane: Any, why: str, steps: int, facts: dict[str, object]) -> None:
        lane.line({"k": "stopped", "why": why, "steps": steps, "at": lane.number(), **facts})
        raise SystemExit(0)

    def finished(lane: Any, optimizer: Any, facts: dict[str, object]) -> None:
        done = lane.writer.steps = lane.turns.count - (not lane.turns.is_complete(is_waiting()))
        facts["step"] = lane.turns.count - 1
        if optimizer is not None and not counted_only:
            facts.update(_digests(optimizer))
            facts["of"] = facts["by"]
        if lane.loss is not None:
            facts["loss"], facts["loss_digest"] = lane.loss
        if not process.level.sees_ops and not counted_only:
            facts["rng"] = torch_rng.state_digest(torch.default_generator)
        lane.event("step", False, **facts)
        lane.writer.progress(lane.number())
        if process.poll_settings and not counted_only:
            process.poll_settings(False)
        if window and process.modes and process.lanes and lane is process.lanes[0]:
            process.modes.set_level(Level.OPS if window[0] <= done < window[1] else Level.STEPS)
        enough = bool(most) and done >= most and lane.turns.is_complete(is_waiting())
        if enough or lane.watched_enough:
            stop(lane, "steps" if enough else "look", done, {})

    def forget_failed(lane: Any, frame: Any, running: int = 0) -> None:
        """Leave the steps that ended with an error, of which torch does not tell: those that are no longer on the stack."""
        while frame is not None:
            place = lane.sites.places.get(id(frame.f_code)) or lane.sites.learn(frame.f_code)
            running += place == STEP
            frame = frame.f_back
        if running < len(lane.stepping):
            del lane.stepping[running:]
            if not lane.stepping and lane.core is not None:
                lane.core.end_step()

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        lane = process.lane()
        if process.modes:
            process.modes.follow()
        if lane.stepping:
            forget_failed(lane, sys._getframe(1), -1)  # the step that begins is on the stack as well
        waiting.pop(id(optimizer), None)
        if not lane.stepping:
            lane.update = begins(lane, optimizer, sys._getframe(1).f_back)  # the wrapper of `step` is in a loop over its hooks
        lane.stepping.append(optimizer)
        if len(lane.stepping) == 1 and lane.core is not None:
            given = args[1:] if args and args[0] is optimizer else args  # the hook is called with all that `step` was, itself included
            closure = (given[0] if given else kwargs.get("closure")) is not None
            lane.core.begin_step(lane.sites.site_of(sys._getframe(1)), closure)

    def after(optimizer: Any, _args: Any, _kwargs: Any) -> None:
        lane = process.lane()
        while lane.stepping and lane.stepping.pop() is not optimizer:  # an inner step that raised never came here
            pass
        if lane.stepping:
            return
        if lane.core is not None:
            lane.core.end_step()
        lane.unfinished_step = None
        finished(lane, optimizer, lane.update)

    def skipped(_result: Any, before: int, _scaler: Any, optimizer: Any, *_args: Any, **_kwargs: Any) -> None:
        """A scaler has left out the step of an optimizer, whose turn of the loop counts all the same."""
        lane = process.lane()
        if lane.turns.updates == before and not lane.stepping:
            finished(lane, None, begins(lane, optimizer, sys._getframe(2)))

    def backward(lane: Any, frame: Any, outputs: Any, options: Any) -> None:
        if lane.stepping:
            forget_failed(lane, frame)
        if not options.get("accumulate_grad", True):  # torch.autograd.grad
            if not state["optimizers"] and not any(frame.f_locals.get("args", ())[1:3]):
                with digest.Unseen():
                    loss = _loss(torch, outputs)
                updates_by_hand(lane, frame, loss)  # the graph is not needed again: what an update by hand is made of
            return
        with digest.Unseen():
            loss = _loss(torch, outputs)
            root = outputs[0] if outputs else None
            if lane.core is not None and isinstance(root, torch.Tensor):
                has_graph = any(isinstance(output, torch.Tensor) and output.requires_grad for output in outputs)
                lane.event("backward", root=lane.core.producer_of(root), graph=has_graph)
        if state["optimizers"]:
            lane.loss = loss
        else:
            updates_by_hand(lane, frame, loss)

    def updates_by_hand(lane: Any, frame: Any, loss: Any) -> None:
        """A backward pass in a script that has no optimizer."""
        if lane.unfinished_step is not None:
            lane.unfinished_step()  # a second backward pass over the same graph, or a level without ops: its loss is still the one before
        lane.loss = loss
        facts = begins(lane, None, frame)

        def finish() -> None:
            lane.unfinished_step = None
            if not state["optimizers"]:
                finished(lane, None, facts)

        lane.unfinished_step = finish

    def made(optimizer: Any, *_args: Any, **_kwargs: Any) -> None:
        state["optimizers"] += 1
        lane = process.lane()
        reference = weakref.ref(optimizer)
        born[id(optimizer)] = reference, lane, lane.turns.updates, lane.places.of(sys._getframe(2))[0]
        waiting[id(optimizer)] = reference

    process.at_backward.append(backward)

    def zeroing(*whose: Any, **_kwargs: Any) -> None:
        lane = process.lane()
        if not lane.stepping and lane.core is not None:
            optimizer = whose and hasattr(whose[0], "param_groups")
            lane.event("zeroed", number=number_of(lane, whose[0]) if optimizer else None)

    def scheduled(scheduler: Any, *_args: Any, **_kwargs: Any) -> None:
        if sys._getframe(2).f_code.co_name != "_initial_step":
            lane = process.lane()
            lane.event("schedule", number=number_of(lane, scheduler.optimizer), name=type(scheduler).__name__)

    torch.nn.Module.zero_grad = telling(torch.nn.Module.zero_grad, zeroing)
    when_imported("torch.optim.lr_scheduler", partial(_watch, "LRScheduler", "step", scheduled))

    def watch_optimizers(module: Any) -> None:
        for hook in (before, after):
            hook._torchdynamo_disable = True  # type: ignore[union-attr]  # as torch.compiler.disable does, for a compiled step
        module.register_optimizer_step_pre_hook(before)
        module.register_optimizer_step_post_hook(after)
        module.Optimizer.__init__ = telling(module.Optimizer.__init__, made)
        module.Optimizer.zero_grad = telling(module.Optimizer.zero_grad, zeroing)

    def watch_scalers(module: Any) -> None:
        module.GradScaler.step = telling_of_a_change(module.GradScaler.step, lambda *_a, **_k: process.lane().turns.updates, skipped)

    when_imported("torch.optim.optimizer", watch_optimizers)
    when_imported("torch.amp.grad_scaler", watch_scalers)


def _watch(cls: str, method: str, tell: Any, module: Any) -> None:
    owner = getattr(module, cls)
    setattr(owner, method, telling(getattr(owner, method), tell))


def _loss(torch: Any, outputs: Any) -> tuple[float | None, int] | None:
    first = outputs[0] if outputs else None
    if not isinstance(first, torch.Tensor) or type(first) not in (torch.Tensor, torch.nn.Parameter):
        return None
    if first.device.type != "cpu":
        return None  # reading it would synchronise the device
    return digest.float_of(first), digest.of_tensor(first)


@digest.unseen
def _digests(optimizer: Any) -> dict[str, object]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters]
    state = optimizer.state
    return {
        "optimizer": type(optimizer).__name__,
        "parameters": digest.of_all(parameters),
        "gradients": digest.of_all(gradients),
        "had": sum([gradient is not None for gradient in gradients]),
        "state": digest.of_all([value for p in parameters if p in state for value in state[p].values()]),
    }


PROBE = Probe(install_torch=install_torch)
