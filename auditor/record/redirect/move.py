"""A script written for the CPU, on another device: what it makes, reads and loads is there, and what it hands to NumPy comes back.

It is moved while nothing in the script speaks of a device of its own. One whose source names such a device, and any other from the first
`.cuda()`, `device="cuda"` or `torch.cuda.is_available()` of the user's code on, is left to itself, up to the index if one is fixed. Tensors
that a library makes for its own use (the loader's permutations, an optimizer's step counts) stay on the CPU, and so does all that a
worker process does.

Memory is no longer shared with NumPy: `from_numpy` copies.
"""

from __future__ import annotations

import copy
import os
import sys
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.callsite import hide_us
from auditor.record.imports import when_imported
from auditor.record.mode import THEIRS, TRACED, Unnoticed, whose
from auditor.record.redirect.logical import each_tensor, logical_device, tensors_in
from auditor.record.redirect.lost_events import by_the_script, calling_module, in_place_of
from auditor.record.wrapping import body_of, original_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.process import Process
    from auditor.record.redirect.lost_events import LostEvents

#: Modules of torch that make tensors for their own use, on the CPU wherever the model is.
_OWN_USE = ("torch.utils.", "torch.optim.", "torch._utils", "torch.storage", "torch.serialization", "torch._tensor_str", "torch.random",
            "torch.distributed.", "torch.multiprocessing.", "torch.autograd.", "torch.amp.", "torch._weights_only")  # fmt: skip
#: Entries of a container in a dataset that are looked at; longer ones hold names of files.
_WIDEST = 10_000


def install(process: Process, torch: Any, told: LostEvents, device: Any, fixed: bool, pretended: bool) -> Callable[[], Any]:
    """Replace the functions through which tensors come and go; returns what makes the mode."""
    base, cls = torch._C.TensorBase, torch.Tensor
    spoken = {"of": names_a_device(_source(), device.type)}  # the script has named a device
    home = os.getpid()

    def passive() -> bool:
        return spoken["of"] or os.getpid() != home or process.role.get("worker") is not None

    def device_of(tensor: Any) -> Any:
        return (logical_device(tensor) if pretended else None) or base.device.__get__(tensor)

    def there(tensor: Any) -> Any:
        """The tensor on the device."""
        if device_of(tensor).type != "cpu" or type(tensor) is not cls:
            return tensor
        return lower_to(tensor, device)

    def speaks(wanted: Any) -> bool:
        """Whether a device that is asked for is one that only a script for such devices asks for; if so it is left to itself.

        `x.device` of a tensor that was moved is none: it has the index of the device, where `"cuda"` has none.
        """
        if wanted is None or isinstance(wanted, bool) or (isinstance(wanted, torch.device) and wanted == device):
            return False
        if not isinstance(wanted, int) and torch.device(wanted).type != device.type:
            return False
        spoken["of"] = True
        return True

    def at_index(wanted: Any) -> Any:
        """The device that is asked for, with the index that is fixed."""
        if fixed and (isinstance(wanted, int) or torch.device(wanted).type == device.type):
            return device
        return wanted

    # What lies below us: the pretence, if it is there, else torch; called so that it does not take us for the auditor.
    lower_to, lower_cpu, lower_cuda = (body_of(getattr(cls, name)) for name in ("to", "cpu", "cuda"))
    lower_load, lower_from_numpy = body_of(torch.load), torch.from_numpy

    def to(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = kwargs.get("device", args[0] if args else None)
        if isinstance(wanted, (str, int, torch.device)) and not isinstance(wanted, bool):
            if speaks(wanted):
                wanted = at_index(wanted)
            elif not passive() and torch.device(wanted).type == "cpu" and device_of(tensor).type != "cpu":
                wanted = device  # where this script's CPU is
            if "device" in kwargs:
                kwargs["device"] = wanted
            else:
                args = (wanted, *args[1:])
        return lower_to(tensor, *args, **kwargs)

    def cuda(tensor: Any, wanted: Any = None, *args: Any, **kwargs: Any) -> Any:
        spoken["of"] = True
        wanted = kwargs.pop("device", wanted)
        return lower_cuda(tensor, device if fixed else wanted, *args, **kwargs)

    def to_cpu(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return tensor if not passive() and device_of(tensor).type != "cpu" else lower_cpu(tensor, *args, **kwargs)

    def numpy(tensor: Any, **kwargs: Any) -> Any:
        if device_of(tensor).type != "cpu" and not passive():
            told.lost("memory shared with NumPy: on another device it is copied, both ways")
            tensor = lower_cpu(tensor)
        return lower_numpy(tensor, **kwargs)

    def from_numpy(array: Any) -> Any:
        made = lower_from_numpy(array)
        if passive():
            return made
        told.lost("memory shared with NumPy: on another device it is copied, both ways")
        return there(made)

    def load(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        if not passive() and (map_location is None or (isinstance(map_location, (str, torch.device)) and str(map_location) == "cpu")):
            map_location = device
        elif map_location is not None and isinstance(map_location, (str, torch.device)):
            speaks(map_location)
        return lower_load(file, map_location, **kwargs)

    lower_numpy = body_of(cls.numpy)
    for name, body in {"to": to, "cuda": cuda, "cpu": to_cpu, "numpy": numpy}.items():
        setattr(cls, name, in_place_of(original_of(getattr(cls, name)), body))
    cls.pin_memory = in_place_of(original_of(cls.pin_memory), _pinned(body_of(cls.pin_memory), passive))
    torch.from_numpy = in_place_of(torch.from_numpy, from_numpy)
    torch.load = in_place_of(torch.load, load)
    inner = torch._C._nn._parse_to
    lower_parse = body_of(inner)

    def parse_to(*args: Any, **kwargs: Any) -> Any:
        found, *rest = lower_parse(*args, **kwargs)
        if found is not None and speaks(found):
            found = at_index(found)
        return (found, *rest)

    torch._C._nn._parse_to = in_place_of(original_of(inner), parse_to)
    for name in ("as_tensor", "asarray"):
        setattr(
            torch, name, in_place_of(original_of(getattr(torch, name)), _brought(body_of(getattr(torch, name)), there, passive, speaks))
        )
    for module, names in ((torch.cuda, ("is_available", "device_count", "current_device", "set_device")),
                          (torch.accelerator, ("is_available", "current_accelerator"))):  # fmt: skip
        for name in names:
            plain = getattr(module, name, None)
            if plain is not None:
                setattr(module, name, in_place_of(plain, _speaking(body_of(plain), spoken), ours=False))
    _around_loader(passive, cls, there, lambda tensor: lower_cpu(tensor) if device_of(tensor).type == device.type else tensor)
    return mode_of(torch, device, passive, speaks, at_index, there)


def names_a_device(source: bytes, kind: str) -> bool:
    """Whether a source speaks of devices of a kind, other than to seed them."""
    code = b"\n".join([line.partition(b"#")[0] for line in source.splitlines()])
    return any(word in code.replace(b"cuda.manual_seed", b"") for word in (kind.encode(), b"accelerator"))


def _source() -> bytes:
    """The script's own text; nothing where it has none. Not by `open`, which is watched."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        file = os.open(path or "", os.O_RDONLY)
    except OSError as error:
        if interrupts(error):
            raise
        return b""
    try:
        return os.read(file, 1 << 20)
    finally:
        os.close(file)


def _pinned(lower: Any, passive: Callable[[], bool]) -> Any:
    return lambda tensor, *args: lower(tensor, *args) if passive() else tensor


def _brought(lower: Any, there: Callable[[Any], Any], passive: Callable[[], bool], speaks: Callable[[Any], bool]) -> Any:
    def make(*args: Any, **kwargs: Any) -> Any:
        if speaks(kwargs.get("device")) or passive():
            return lower(*args, **kwargs)
        kwargs.pop("device", None)
        return there(lower(*args, **kwargs))

    return make


def _speaking(lower: Any, spoken: dict[str, bool]) -> Any:
    def ask(*args: Any, **kwargs: Any) -> Any:
        if by_the_script():
            spoken["of"] = True
        return lower(*args, **kwargs)

    return ask


def _around_loader(passive: Callable[[], bool], tensor: type, there: Callable[[Any], Any], back: Callable[[Any], Any]) -> None:
    """Let each batch that a DataLoader gives be moved, and what its worker processes read be on the CPU: they cannot use the device."""

    def install(module: Any) -> None:
        loader = module._BaseDataLoaderIter
        plain_begin, plain_next = loader.__init__, loader.__next__

        def begin(iterator: Any, source: Any, *args: Any, **kwargs: Any) -> None:
            plain_begin(iterator, source, *args, **kwargs)
            if source.num_workers and not passive():
                iterator._dataset = _read_on_cpu(iterator._dataset, module.Dataset, tensor, back)

        def following(iterator: Any) -> Any:
            batch = plain_next(iterator)
            return batch if passive() else each_tensor(batch, tensor, there)

        loader.__init__, loader.__next__ = in_place_of(plain_begin, begin), in_place_of(plain_next, following)

    when_imported("torch.utils.data.dataloader", install)


def _read_on_cpu(source: Any, kind: type, tensor: type, back: Callable[[Any], Any]) -> Any:
    """A copy of a dataset, and of those within it, with its tensors on the CPU; itself if it holds none."""
    if isinstance(source, (list, tuple, dict)) and len(source) > _WIDEST:
        return source
    if isinstance(source, (list, tuple)):
        return each_tensor(type(source)([_read_on_cpu(part, kind, tensor, back) for part in source]), tensor, back)
    if not isinstance(source, kind) or not hasattr(source, "__dict__"):
        return each_tensor(source, tensor, back)
    held = {name: _read_on_cpu(value, kind, tensor, back) for name, value in vars(source).items()}
    if all(held[name] is value for name, value in vars(source).items()):
        return source
    made = copy.copy(source)
    made.__dict__.update(held)
    return made


def mode_of(torch: Any, device: Any, passive: Any, speaks: Any, at_index: Any, there: Any) -> Callable[[], Any]:
    """What makes the dispatch mode in which the factories of the user's code, and of modules, make their tensors on the device."""
    from torch.utils import _python_dispatch

    tensor_type = torch.Tensor

    class Moved(Unnoticed, _python_dispatch.TorchDispatchMode):
        """Moves factories."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            try:
                who = whose(types)
                if who == THEIRS:
                    return NotImplemented
                if who == TRACED:
                    return getattr(func, "_op", func)(*args, **(kwargs or {}))
                kwargs = kwargs or {}
                call = getattr(func, "_op", func)  # without the frame of OpOverload.__call__
                asked = kwargs.get("device")
                if asked is not None and speaks(asked):
                    kwargs = {**kwargs, "device": at_index(asked)}
                elif not passive() and not calling_module().startswith(_OWN_USE):
                    given = tensors_in(kwargs.values(), tensor_type, tensors_in(args, tensor_type, []))
                    if asked is not None and torch.device(asked).type == "cpu" and "pin_memory" in kwargs:
                        kwargs = {**kwargs, "device": device, "pin_memory": False}
                    elif str(func) == "aten.lift_fresh.default":  # torch.tensor: a constant that C++ has made below us
                        return there(call(*args, **kwargs))
                    elif not given and asked is not None and torch.device(asked).type == "cpu" and str(func).startswith("aten.empty"):
                        kwargs = {**kwargs, "device": device}  # torch.Tensor(2, 3)
                    else:
                        return self.together(call, func, args, kwargs, given)
                return call(*args, **kwargs)
            except BaseException as error:
                hide_us(error)
                raise

        def together(self, call: Any, func: Any, args: Any, kwargs: Any, given: list[Any]) -> Any:
            """Run an op; one that is refused for a tensor that was left on the CPU gets it on the device."""
            try:
                return call(*args, **kwargs)
            except RuntimeError as error:
                if interrupts(error):
                    raise
                if "device" not in str(error) or len(given) < 2 or getattr(getattr(func, "_schema", None), "is_mutable", True):
                    raise
            return call(*each_tensor(tuple(args), tensor_type, there), **each_tensor(dict(kwargs), tensor_type, there))

    return Moved
