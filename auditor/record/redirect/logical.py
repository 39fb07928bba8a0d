"""The logical device of a tensor whose memory is the CPU's: an attribute of its storage, which outlives views and saved tensors.

A storage that an op made has the attribute: a CUDA device, the CPU, or `UNDECIDED` for one that torch's own C++ code made with no tensor at
hand (`at::zeros(shape, self.options())` within `one_hot`): the first op that writes it together with a CUDA tensor decides. One without
the attribute came from outside (NumPy, a file, another process), and is the CPU's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "_repro_audit_device"
UNDECIDED = "undecided"


def storage_of(tensor: Any) -> Any:
    """The storage that holds a tensor's device; of a sparse one that of its values. None if there is none."""
    try:
        return tensor.untyped_storage()
    except Exception as error:  # sparse, opaque and wrapper tensors have no storage; each says so in its own way
        if interrupts(error):
            raise
        return _storage_of_values(tensor)


def _storage_of_values(tensor: Any) -> Any:
    try:
        return (tensor._values() if str(tensor.layout) == "torch.sparse_coo" else tensor.values()).untyped_storage()
    except Exception as error:  # likewise
        if interrupts(error):
            raise
        return None


def logical_device(tensor: Any) -> Any:
    """The CUDA device that a tensor passes for being on; None if it does not."""
    found = getattr(storage_of(tensor), NAME, None)
    return found if found is not None and found is not UNDECIDED and found.type != "cpu" else None


def put(tensor: Any, device: Any) -> None:
    """Let a tensor, and all that shares its memory, pass for being on a device."""
    try:
        setattr(storage_of(tensor), NAME, device)
    except AttributeError as error:  # a tensor without storage stays where it is
        if interrupts(error):
            raise


def tensors_in(values: Any, tensor: type, found: list[Any]) -> list[Any]:
    """All tensors among arguments, in lists within lists too."""
    for value in values:
        if isinstance(value, tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            tensors_in(value, tensor, found)
    return found


def each_tensor(value: Any, tensor: type, made: Callable[[Any], Any]) -> Any:
    """A value with each of its tensors replaced by `made` of it; containers of other types than list, tuple and dict are left."""
    if isinstance(value, tensor):
        return made(value)
    kind = type(value)
    if kind is list:
        return [each_tensor(part, tensor, made) for part in value]
    if isinstance(value, tuple):
        parts = [each_tensor(part, tensor, made) for part in value]
        return kind(*parts) if hasattr(value, "_fields") else kind(parts)
    if kind is dict:
        return {name: each_tensor(part, tensor, made) for name, part in value.items()}
    return value
