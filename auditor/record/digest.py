"""Tensor or bytes -> digest: xxh3 over the bytes in memory order. The only place that copies from a device.

dtype, shape, stride and device are not mixed in: they are part of the record's `sig`, and the two together are what is
compared. Which memory may be read for which kind of tensor, and which reads crash, is measured in the notes at each branch.

**On a device.** Copying each result to be hashed would make the program wait for the device at each op, and hide the races that one looks
for. So the results of ops on a device are digested there: the sum of their 32-bit words, each times a weight of its own, modulo 2**64.
That is integer arithmetic, so the order in which a device adds does not matter, and that of the words does, because of the weights. Words
differ by less than 2**32, so two that change places are missed only where their weights agree in the last 33 bits or more. The sums
stay on the device until many are read at once, see `Deferred`. Such a digest is no xxh3 and equals only others of its kind.
"""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Callable, Iterable
from functools import wraps
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, TypeVar

from xxhash import xxh3_64, xxh3_64_intdigest

from auditor.interruptions import interrupts

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

#: Rows of more than this many entries are not compared as a set (a Python call a row).
ROWS_LIMIT = 1024

of_bytes = xxh3_64_intdigest
_pack_digest = struct.Struct("<Q").pack_into

#: number of bytes -> ctypes array type; making the type anew costs 20 times the lookup.
array_types: dict[int, Any] = {}


def array_type(size: int) -> Any:
    """The cached ctypes type of `size` bytes; the cache is dropped when a script has very many sizes."""
    if len(array_types) > 4096:
        array_types.clear()
    made = array_types[size] = ctypes.c_char * size
    return made


class Unseen:
    """Within it, what this thread asks of tensors and does with them reaches no mode and no class of the user's."""

    __slots__ = ("_function", "_guard")

    def __enter__(self) -> None:
        import torch

        self._guard = torch._C._DisableTorchDispatch()
        self._function = torch._C.DisableTorchFunction()
        self._function.__enter__()

    def __exit__(self, *error: object) -> None:
        self._function.__exit__(None, None, None)
        del self._guard


def unseen(function: Callable[..., Result]) -> Callable[..., Result]:
    """A function that runs under `Unseen`."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Result:
        with Unseen():
            return function(*args, **kwargs)

    return run


#: name of a class of tensors -> how many of its tensors had values that could not be read
unread: dict[str, int] = {}


def count_unread(tensor: Any) -> None:
    """Count a tensor whose values nobody could read, so that it is told with what was lost."""
    layout = str(getattr(tensor, "layout", ""))[6:]
    kind = type(tensor).__qualname__ + (f" ({layout})" if layout not in ("", "strided") else "")
    unread[kind] = unread.get(kind, 0) + 1


def has_own_dispatch(kind: type) -> bool:
    """Whether a class of tensors answers for what is done with its tensors: they wrap others, or stand for values that are not there."""
    import torch

    disabled = torch._C._disabled_torch_dispatch_impl
    return getattr(kind, "__torch_dispatch__", disabled) is not disabled


def is_traced(kind: type) -> bool:
    """Whether tensors of this class belong to a mode that traces (fake and functional ones): they have no values of the run."""
    return getattr(kind, "_mode_key", None) is not None


def parts_of(tensor: Any) -> list[Any]:
    """The tensors that a tensor with its own dispatch is made of: what lies in its attributes, by name. Asks its class nothing."""
    found: dict[str, Any] = {}
    try:
        found.update(object.__getattribute__(tensor, "__dict__"))
    except AttributeError as error:
        if interrupts(error):
            raise
    for kind in type(tensor).__mro__:
        for name, slot in vars(kind).items():
            if type(slot) is MemberDescriptorType:
                try:
                    found.setdefault(name, slot.__get__(tensor, kind))
                except AttributeError as error:  # not set
                    if interrupts(error):
                        raise
    parts: list[Any] = []
    for name in sorted(found):
        value = found[name]
        inner = value if type(value) in (list, tuple) else value.values() if type(value) is dict else (value,)
        parts += [one for one in inner if hasattr(type(one), "untyped_storage") and one is not tensor]
    return parts


def of_tensor(tensor: torch.Tensor) -> int:
    """Digest of any tensor; 0 if it has no bytes that can be read (meta, fake, functional, empty).

    Called within a handler or under `Unseen`, as is all that reads a tensor of a class of the user's.
    """
    import torch

    kind = tensor.__class__
    if kind is not torch.Tensor and kind is not torch.nn.Parameter and has_own_dispatch(kind):
        return _of_wrapper(tensor)
    if (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_conj()
        and not tensor.is_neg()
        and tensor.is_contiguous()
    ):  # nearly all; nothing here is dispatched
        size = tensor.nbytes
        address = tensor.data_ptr()
        if not size or not address:
            return 0
        return of_bytes((array_types.get(size) or array_type(size)).from_address(address))
    flat = physical(tensor)
    if flat is None:
        return 0
    if isinstance(flat, tuple):
        return of_many([of_tensor(part) for part in flat])
    size = flat.nbytes
    address = flat.data_ptr()
    if not size or not address:
        return 0
    return of_bytes((array_types.get(size) or array_type(size)).from_address(address))


def _of_wrapper(tensor: Any) -> int:
    kind = type(tensor)
    if is_traced(kind):
        return 0
    parts = parts_of(tensor)
    if parts:
        return of_many([of_tensor(part) for part in parts])
    try:
        size, address = tensor.nbytes, tensor.data_ptr()
        if size and address and tensor.is_cpu and tensor.is_contiguous():  # its own memory, as `_make_subclass` gives it
            return of_bytes((array_types.get(size) or array_type(size)).from_address(address))
    except Exception as error:  # it has none
        if interrupts(error):
            raise
    count_unread(tensor)
    return 0


def float_of(tensor: torch.Tensor) -> float | None:
    """The value of a CPU tensor with one element of float32 or float64, read without an op: a profiler would count it."""
    import torch

    kind = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}.get(tensor.dtype)
    if kind is None or tensor.numel() != 1 or tensor.layout is not torch.strided or tensor.is_neg() or not tensor.data_ptr():
        return None
    return kind.from_address(tensor.data_ptr()).value


def of_many(digests: list[int]) -> int:
    """One order-sensitive digest of several."""
    return of_bytes(b"".join(d.to_bytes(8, "little") for d in digests))


def of_value(value: Any) -> int:
    """Digest of what an op returns that is no tensor, by its content, never by an address: of an object that it does not tell, the type."""
    return of_bytes(_told(value).encode())


def _told(value: Any) -> str:
    kind = type(value)
    if kind in (list, tuple):
        return f"{kind.__name__}({', '.join(_told(part) for part in value)})"
    if kind is dict:
        return f"dict({', '.join(f'{_told(key)}: {_told(part)}' for key, part in value.items())})"
    if value is None or kind in _TOLD:
        return repr(value)
    if hasattr(kind, "untyped_storage"):
        return f"{value.dtype}{tuple(value.shape)}{of_tensor(value):x}"
    if _is_scripted(kind):
        try:
            return f"{value._type()}{_told(value.__getstate__())}"  # packed weights: what they would be saved as
        except Exception as error:  # one that cannot be saved
            if interrupts(error):
                raise
    return f"{kind.__module__}.{kind.__qualname__}"


#: Types that are told by their repr: it is the same in every run.
_TOLD = (int, bool, float, complex, str, bytes)


def _is_scripted(kind: type) -> bool:
    import torch

    return issubclass(kind, torch.ScriptObject)


def of_all(values: Iterable[object]) -> int:
    """One order-sensitive digest of many tensors, as they lie in memory; what is no tensor counts as absent.

    Made for each step of a small model too: one running hash, and of each tensor only the questions on which memory safety depends.
    """
    import torch

    plain = (torch.Tensor, torch.nn.Parameter)
    running = xxh3_64()
    add = running.update
    elsewhere: list[torch.Tensor] = []
    for value in values:
        try:
            if value.__class__ not in plain and isinstance(value, torch.Tensor) and has_own_dispatch(type(value)):
                add(_of_wrapper(value).to_bytes(8, "little"))
                continue
            if value.is_contiguous() and value.is_cpu:  # type: ignore[attr-defined]  # or not a tensor, see below
                size = value.nbytes  # type: ignore[attr-defined]
                address = value.data_ptr()  # type: ignore[attr-defined]
                add((array_types.get(size) or array_type(size)).from_address(address) if size and address else b"empty")
                continue
        except (AttributeError, RuntimeError) as error:  # None, a number; a sparse tensor has no memory of its own
            if interrupts(error):
                raise
        if getattr(value, "is_cpu", True):
            add(of_tensor(value).to_bytes(8, "little") if hasattr(value, "untyped_storage") else b"none")  # type: ignore[arg-type]
        else:
            elsewhere.append(value)  # type: ignore[arg-type]  # a tensor on a device
    for found in _read_at_once(elsewhere):
        add(found.to_bytes(8, "little", signed=True))
    return running.intdigest()


def _read_at_once(tensors: list[torch.Tensor]) -> list[int]:
    """Digests of tensors on devices, with one wait for each device."""
    import torch

    sums = OnDevice(torch)
    found = [(tensor.device, sums.of(tensor)) for tensor in tensors]
    values: dict[Any, list[int]] = {}
    for device in dict.fromkeys(device for device, _ in found):
        made = [one for of, one in found if of == device and one is not None]
        values[device] = torch.stack(made).tolist() if made else []
    left = {device: iter(some) for device, some in values.items()}
    return [0 if one is None else next(left[device]) for device, one in found]


#: Words that are weighted at once: the products take 8 bytes each.
_BLOCK = 1 << 16
_BLOCKS = 64
#: device and which of three -> that many weights
_weights: dict[tuple[Any, int], Any] = {}


class OnDevice:
    """Digests tensors where they are."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def of(self, tensor: Any) -> Any:
        """A tensor of one int64 on the same device, without waiting for it; None for a tensor that has no memory to be read."""
        flat = _as_it_lies(tensor.detach())
        if flat is None or not flat.numel():
            return None
        torch = self._torch
        words = _words(torch, flat)
        n = words.numel()
        device = words.device
        if n <= _BLOCK:
            return (words * self._of(device, 1)[:n]).sum()
        total = None
        for first in range(0, n, _BLOCK * _BLOCKS):
            part = words[first : first + _BLOCK * _BLOCKS]
            rows = part.numel() // _BLOCK
            turns = self._of(device, 2)[:_BLOCKS] * (2 * (first // _BLOCK) + 1)
            found = ((part[: rows * _BLOCK].view(rows, _BLOCK) * self._of(device, 1)).sum(1) * turns[:rows]).sum()
            rest = part[rows * _BLOCK :]
            if rest.numel():
                found = found + (rest * self._of(device, 3)[: rest.numel()]).sum()
            total = found if total is None else total + found
        return total

    def _of(self, device: Any, which: int) -> Any:
        """Odd 64-bit weights, the same in every run, made of integers on the device itself."""
        known = _weights.get((device, which))
        if known is None:
            torch = self._torch
            x = torch.arange(which << 32, (which << 32) + _BLOCK, dtype=torch.int64, device=device) * -0x61C8864680B583EB
            x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
            x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
            known = _weights[device, which] = x ^ ((x >> 31) & 0x1FFFFFFFF) | 1
        return known


def _words(torch: Any, flat: Any) -> Any:
    """The memory of a dense tensor as integers of 32 bits, or of 8 where it cannot be divided so."""
    size = flat.element_size()
    whole = flat.numel() * size % 4 == 0 and flat.storage_offset() * size % 4 == 0
    return flat.view(torch.int32 if size % 4 == 0 or whole else torch.uint8)


def _as_it_lies(tensor: Any) -> Any:
    """The elements of a tensor in the order in which they lie in memory, as one dimension; None if it has no dense memory."""
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return None
    if tensor.is_conj():
        tensor = tensor.resolve_conj()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_contiguous():
        stride = tensor.stride()
        tensor = tensor.permute(sorted(range(tensor.dim()), key=lambda d: (-stride[d], d)))
    return tensor.reshape(-1)


class Deferred:
    """Digests that are still on a device, and the places in memory where they belong: read all at once, when the program waits anyway."""

    #: At most so many are kept: each is a small tensor.
    MOST = 8192

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._sums = OnDevice(torch)
        self._waiting: list[tuple[Any, Any, int]] = []
        self.captured = 0
        """Results within a CUDA graph that is being captured: nothing may be read there."""

    def sum_of(self, tensor: Any) -> Any:
        """The digest of a tensor as a tensor on its device; None where there is none."""
        if tensor.is_cuda and self._torch.cuda.is_current_stream_capturing():
            self.captured += 1
            return None
        return self._sums.of(tensor)

    def wait_for(self, found: Any, memory: Any, offset: int) -> None:
        """Remember where a digest belongs."""
        self._waiting.append((found, memory, offset))
        if len(self._waiting) >= self.MOST:
            self.read()

    def read(self) -> None:
        """Wait for the devices and write the digests to their places."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        torch = self._torch
        with Unseen():
            self._read(torch, waiting)

    def _read(self, torch: Any, waiting: list[tuple[Any, Any, int]]) -> None:
        of_devices: dict[Any, list[tuple[Any, Any, int]]] = {}
        for entry in waiting:
            of_devices.setdefault(entry[0].device, []).append(entry)
        for device, entries in of_devices.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # they were made on whichever stream the op ran
            values = torch.stack([found for found, _, _ in entries]).tolist()
            for value, (_, memory, offset) in zip(values, entries, strict=True):
                _pack_digest(memory, offset, of_bytes(value.to_bytes(8, "little", signed=True)))


def physical(tensor: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...] | None:
    """The tensor as contiguous readable CPU memory in physical order, its parts if it has several, None if it has none.

    Called with dispatch modes out of the way: within a handler, or under `Unseen`.
    """
    import torch

    tensor = tensor.detach()
    layout = tensor.layout
    if layout is torch.sparse_coo:
        # _indices/_values: the public ones insist on a coalesced tensor, and coalescing would change it
        return tensor._indices(), tensor._values()
    if layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    if layout is not torch.strided:
        return physical(tensor.to_dense()) if layout is getattr(torch, "_mkldnn", None) else None
    if tensor.device.type == "meta":
        return None
    # A lazily conjugated tensor calls itself contiguous, and its memory holds the other numbers.
    if tensor.is_conj():
        tensor = tensor.resolve_conj()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if not tensor.is_contiguous():
        stride = tensor.stride()
        order = sorted(range(tensor.dim()), key=lambda d: (-stride[d], d))
        tensor = tensor.permute(order)  # channels_last and transposes: dense in another order, no copy
        if not tensor.is_contiguous():
            tensor = tensor.contiguous()
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    # A ZeroTensor (forward AD) has nbytes but no memory: reading it would be a segmentation fault.
    return tensor if tensor.data_ptr() else None


def of_rows(tensor: torch.Tensor) -> int:
    """Digest of the tensor's rows as a multiset: the same rows in another order give the same number. 0 if not taken.

    A row is an entry along the first dimension. Called with dispatch modes out of the way.
    """
    import torch

    if tensor.dim() == 0 or not 1 < tensor.shape[0] <= ROWS_LIMIT or tensor.layout is not torch.strided or tensor.device.type == "meta":
        return 0
    flat = tensor.detach()
    if flat.is_conj() or flat.is_neg():
        flat = flat.resolve_conj().resolve_neg()
    if not flat.is_contiguous() or flat.device.type != "cpu":
        flat = flat.contiguous().cpu()
    size = flat.nbytes
    if not size or not flat.data_ptr():
        return 0
    row = size // flat.shape[0]
    entries = memoryview((array_types.get(size) or array_type(size)).from_address(flat.data_ptr())).cast("B")
    word = _WORDS.get(row)
    if word is not None:  # labels: a hash of each would take longer than sorting them
        return of_bytes(array(word, sorted(entries.cast(word))))
    return sum([of_bytes(entries[start : start + row]) for start in range(0, size, row)]) & 0xFFFFFFFFFFFFFFFF


#: bytes of a row -> format of unsigned integers of that size
_WORDS: dict[int, Any] = {1: "B", 2: "H", 4: "I", 8: "Q"}
