"""Random numbers that are the same on all devices: they are drawn from the CPU's generator and moved.

One stream serves all devices: `torch.manual_seed` decides everything, and a generator made for another device is one of the CPU in its
place. Dropout is drawn as ATen draws it on the CPU (`at::native::_dropout_impl`: a tensor like the input, `bernoulli_(1 - p)`, divided by
`1 - p`), so that both devices take the same numbers from the stream.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from auditor.record.callsite import hide_us
from auditor.record.mode import THEIRS, TRACED, Unnoticed, whose
from auditor.record.redirect.lost_events import in_place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.redirect.lost_events import LostEvents

#: Fused ops that draw inside and cannot be told what: by the position and name of the probability.
_INSIDE = {
    "aten._scaled_dot_product_flash_attention.default": 3,
    "aten._scaled_dot_product_efficient_attention.default": 5,
    "aten._scaled_dot_product_cudnn_attention.default": 5,
    "aten._flash_attention_forward.default": 7,
    "aten._efficient_attention_forward.default": 7,
    "aten._cudnn_rnn.default": 11,
    "aten.miopen_rnn.default": 11,
}
_PREPARES = frozenset({"aten._cudnn_init_dropout_state.default"})
#: What these write does not depend on what was there.
_FILLS = ("uniform_", "normal_", "bernoulli_", "random_", "exponential_", "geometric_", "cauchy_", "log_normal_")


def install(torch: Any, told: LostEvents, foreign: Callable[[Any], bool]) -> Callable[[], Any]:
    """Put seeds and generators in place; returns what makes the mode. `foreign(device)`: whether draws for it are made on the CPU."""
    install_generators(torch, told)
    install_seeds(torch, told)
    begin = torch.cuda._lazy_init

    def begun() -> None:
        begin()
        torch.cuda.default_generators = (torch.default_generator,) * 64  # CUDA puts its own there when it begins

    torch.cuda._lazy_init = in_place_of(begin, begun, ours=False)
    return mode_of(torch, told, foreign)


def mode_of(torch: Any, told: LostEvents, foreign: Callable[[Any], bool]) -> Callable[[], Any]:
    """What makes the dispatch mode in which random ops of foreign devices are run on the CPU."""
    from torch.utils import _python_dispatch

    tensor_type, cpu = torch.Tensor, torch.device("cpu")
    seeded = torch.Tag.nondeterministic_seeded
    device_of = torch._C.TensorBase.device.__get__
    random: dict[int, bool] = {}

    class Draws(Unnoticed, _python_dispatch.TorchDispatchMode):
        """Sends random ops to the CPU."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            try:
                who = whose(types)
                if who == THEIRS:
                    return NotImplemented
                if who == TRACED:
                    return getattr(func, "_op", func)(*args, **(kwargs or {}))
                kwargs = kwargs or {}
                call = getattr(func, "_op", func)  # without the frame of OpOverload.__call__
                draws = random.get(id(func))
                if draws is None:
                    draws = random[id(func)] = seeded in getattr(func, "tags", ()) or str(func) in _INSIDE
                if not draws:
                    return call(*args, **kwargs)
                where = place_of(args, kwargs)
                return call(*args, **kwargs) if where is None else drawn(func, args, kwargs, where)
            except BaseException as error:
                hide_us(error)
                raise

    def place_of(args: Any, kwargs: Any) -> Any:
        """The foreign device that an op computes on; None if there is none."""
        asked = kwargs.get("device")
        if asked is not None:
            return torch.device(asked) if foreign(torch.device(asked)) else None
        found: Any = None
        for value in (*args, *kwargs.values()):
            for part in value if isinstance(value, (list, tuple)) else (value,):
                if found is None and isinstance(part, tensor_type):
                    found = device_of(part)
        return found if found is not None and foreign(found) else None

    def drawn(func: Any, args: Any, kwargs: Any, where: Any) -> Any:
        name = str(func)
        if name in ("aten.native_dropout.default", "aten._fused_dropout.default"):
            return dropout(name, args, kwargs)
        if name in _INSIDE or name in _PREPARES:
            at = _INSIDE.get(name, 0)
            probability = kwargs.get("dropout_p", args[at] if at < len(args) else 0.0)
            if name in _INSIDE and isinstance(probability, float) and probability > 0:
                told.lost(f"{name} with dropout: it draws within its kernel, so its numbers are not those of the other device")
            return func(*args, **kwargs)
        return on_cpu(func, args, kwargs, where)

    def dropout(name: str, args: Any, kwargs: Any) -> Any:
        """`native_dropout(x, p, train)` or `_fused_dropout(x, 1 - p)`: the result and what was kept, as the CPU would draw it."""
        x, p = args[0], float(args[1] if len(args) > 1 else kwargs["p"])
        fused = "fused" in name
        keep = p if fused else 1 - p
        train = True if fused else args[2] if len(args) > 2 else kwargs.get("train", True)
        if train is False or keep == 1:
            return x.clone(), torch.ones_like(x, dtype=torch.bool)
        if keep == 0:
            return torch.zeros_like(x), torch.zeros_like(x, dtype=torch.uint8 if fused else torch.bool)
        generator = args[2] if fused and len(args) > 2 else None
        noise = torch.empty_like(x, device=cpu).bernoulli_(keep, generator=generator)
        kept = noise.to(torch.uint8 if fused else torch.bool).to(device_of(x))
        return x * noise.div_(keep).to(device_of(x)), kept

    def on_cpu(func: Any, args: Any, kwargs: Any, where: Any) -> Any:
        """Run the op on copies on the CPU, and bring back what it made and what it changed."""
        copies: list[tuple[Any, Any]] = []
        fills = str(func).partition(".")[2].startswith(_FILLS)

        def down(value: Any) -> Any:
            if isinstance(value, tensor_type):
                if fills and not copies:
                    copy = torch.empty_like(value, device=cpu)
                else:
                    copy = value.detach().to(device=cpu, copy=True)
                copies.append((value, copy))
                return copy
            if isinstance(value, (list, tuple)):
                return type(value)([down(part) for part in value])
            if isinstance(value, torch._C.Generator) and value.device.type != "cpu":
                return None  # a device's own default generator: the CPU's in its place
            return value

        def up(value: Any) -> Any:
            if isinstance(value, tensor_type):
                changed = [original for original, copy in copies if copy is value]
                return changed[0] if changed else value.to(where)
            if isinstance(value, (list, tuple)):
                return type(value)([up(part) for part in value])
            return value

        taken = [down(value) for value in args]
        named = {name: cpu if name == "device" else False if name == "pin_memory" else down(value) for name, value in kwargs.items()}
        result = func(*taken, **named)
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, (*args, *(None,) * len(func._schema.arguments)), strict=False):
                value = kwargs.get(argument.name, value)
                if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, tensor_type):
                    value.copy_(next(copy for original, copy in copies if original is value))
        return up(result)

    return Draws


def install_generators(torch: Any, told: LostEvents) -> None:
    """`torch.Generator(device="cuda")` is one of the CPU that says that it is of the device."""
    plain = torch._C.Generator

    class Kind(type(plain)):  # type: ignore[misc]  # the metaclass of a type of C
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, plain)

        def __getattr__(cls, name: str) -> Any:
            return getattr(plain, name)

        def __call__(cls, device: Any = None) -> Any:
            if device is None:
                return plain()
            wanted = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
            return plain(device=wanted) if wanted.type != "cuda" else made(wanted)

    class OfDevice(plain):  # type: ignore[misc, valid-type]  # a type of C
        device = property(lambda self: self._repro_audit_device)

    def made(wanted: Any) -> Any:
        generator = OfDevice(device="cpu")
        generator._repro_audit_device = torch.device("cuda", wanted.index or 0)
        return generator

    class Generator(metaclass=Kind):
        __doc__ = plain.__doc__

    Generator.__qualname__ = Generator.__name__ = "Generator"
    Generator.__module__ = plain.__module__
    torch.Generator = Generator


def install_seeds(torch: Any, told: LostEvents) -> None:
    """Let the states of CUDA's generators be the CPU's, and their seeds count only where nothing else seeds."""
    cuda = torch.cuda
    state = {"seeded": False}
    size = torch.default_generator.get_state().numel()

    def seed_all(seed: Any) -> None:
        frame: Any = sys._getframe(2)
        if frame.f_globals.get("__name__") == "torch.random":  # torch.manual_seed, which seeds the CPU's generator right after
            state["seeded"] = True
        elif not state["seeded"]:
            torch.default_generator.manual_seed(int(seed))

    def set_state(new: Any, device: Any = "cuda") -> None:
        if new.numel() == size:
            torch.default_generator.set_state(new.detach().to(device="cpu"))
        else:
            told.lost("a state of a CUDA generator that was saved on a CUDA device: it says nothing of the CPU's stream")

    def set_states(states: Any) -> None:
        for new in list(states)[:1]:
            set_state(new)

    answers: dict[str, Any] = {
        "manual_seed": seed_all,
        "manual_seed_all": seed_all,
        "seed": lambda: None,
        "seed_all": lambda: None,
        "initial_seed": torch.default_generator.initial_seed,
        "get_rng_state": lambda device="cuda": torch.default_generator.get_state(),
        "get_rng_state_all": lambda: [torch.default_generator.get_state()],
        "set_rng_state": set_state,
        "set_rng_state_all": set_states,
    }
    for name, answer in answers.items():
        stand_in = in_place_of(getattr(cuda, name), answer, ours=False)
        setattr(cuda, name, stand_in)
        setattr(cuda.random, name, stand_in)
