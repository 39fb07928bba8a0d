"""Which torch stream an op draws from and in what state; seeds of torch's generators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record import digest
from auditor.record.probes import Probe
from auditor.record.wrapping import replace_in_type, telling, telling_of_a_change

if TYPE_CHECKING:
    from auditor.record.process import Process


def install_torch(process: Process, torch: Any) -> None:
    """Watch the seeding methods of `torch.Generator`, which `torch.manual_seed` and its kin call."""

    def seeded(name: str) -> Any:
        def tell(result: Any, generator: Any, *args: Any, **kwargs: Any) -> None:
            value = args[0] if args else kwargs.get("seed", result if name == "seed" else None)
            process.lane().seed(stream_of(torch, generator), f"torch.Generator.{name}", value, name == "seed", state_digest(generator))

        return lambda method: telling(method, tell, after=True)

    def put_back(_result: Any, was: int, generator: Any, *_args: Any) -> None:
        process.lane().seed(stream_of(torch, generator), "torch.Generator.set_state", None, False, state_digest(generator), was)

    watched = {name: seeded(name) for name in ("manual_seed", "seed")}
    watched["set_state"] = lambda method: telling_of_a_change(method, lambda generator, *_a: state_digest(generator), put_back)
    for name, made in watched.items():
        if not replace_in_type(torch._C.Generator, name, made):
            process.lane().line({"k": "lost", "what": f"torch.Generator.{name}: the type could not be watched", "count": 1})


@digest.unseen
def state_digest(generator: Any) -> int:
    """Digest of a generator's state."""
    return digest.of_tensor(generator.get_state())


def stream_of(torch: Any, generator: Any) -> str:
    """Name of a generator's stream: `torch-cpu`, `torch-cuda:0`, or `torch-own` for one that the script made."""
    if generator is torch.default_generator:
        return "torch-cpu"
    device = generator.device
    if device.type != "cpu" and any(generator is g for g in _default_generators(torch, device.type)):
        return f"torch-{device}"
    return "torch-own"


def _default_generators(torch: Any, device_type: str) -> Any:
    return getattr(getattr(torch, device_type, None), "default_generators", ())


def state_of_stream(torch: Any, args: Any, kwargs: Any) -> tuple[str, int] | None:
    """Stream and state of the generator that an op with these arguments draws from; None if what it fills has no values."""
    device = None
    for value in (*args, *(kwargs or {}).values()):
        if isinstance(value, torch._C.Generator):
            return stream_of(torch, value), state_digest(value)
        if device is None:
            if isinstance(value, torch.Tensor):
                device = value.device
            elif isinstance(value, torch.device):
                device = value
    if device is not None and device.type == "meta":
        return None
    if device is None or device.type == "cpu":
        generator = torch.default_generator
    else:
        defaults = _default_generators(torch, device.type)
        index = device.index if device.index is not None else getattr(torch, device.type).current_device() if defaults else 0
        if index >= len(defaults):
            return f"torch-{device}", 0
        generator = defaults[index]
    return stream_of(torch, generator), state_digest(generator)


PROBE = Probe(install_torch=install_torch)
