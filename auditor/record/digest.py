"""Tensor or bytes -> digest: xxh3 over the bytes in memory order. The only place that copies from a device.

dtype, shape, stride and device are not mixed in: they are part of the record's `sig`, and the two together are what is
compared. Which memory may be read for which kind of tensor, and which reads crash, is measured in the notes at each branch.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64, xxh3_64_intdigest

if TYPE_CHECKING:
    import torch

#: Rows of more than this many entries are not compared as a set (a Python call a row).
ROWS_LIMIT = 1024

of_bytes = xxh3_64_intdigest

#: number of bytes -> ctypes array type; making the type anew costs 20 times the lookup.
array_types: dict[int, Any] = {}


def array_type(size: int) -> Any:
    """The cached ctypes type of `size` bytes; the cache is dropped when a script has very many sizes."""
    if len(array_types) > 4096:
        array_types.clear()
    made = array_types[size] = ctypes.c_char * size
    return made


def no_dispatch() -> Any:
    """A guard: while it lives, what this thread does with tensors is not dispatched to any mode."""
    import torch

    return torch._C._DisableTorchDispatch()


def of_tensor(tensor: torch.Tensor) -> int:
    """Digest of any tensor; 0 if it has no bytes that can be read (meta, fake, functional, empty)."""
    import torch

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


def of_all(values: Iterable[object]) -> int:
    """One order-sensitive digest of many tensors, as they lie in memory; what is no tensor counts as absent.

    Made for each step of a small model too: one running hash, and of each tensor only the questions on which memory safety depends.
    """
    running = xxh3_64()
    add = running.update
    for value in values:
        try:
            if value.is_contiguous() and value.is_cpu:  # type: ignore[attr-defined]  # or not a tensor, see below
                size = value.nbytes  # type: ignore[attr-defined]
                address = value.data_ptr()  # type: ignore[attr-defined]
                add((array_types.get(size) or array_type(size)).from_address(address) if size and address else b"empty")
                continue
        except (AttributeError, RuntimeError):  # None, a number; a sparse tensor has no memory of its own
            pass
        add(of_tensor(value).to_bytes(8, "little") if hasattr(value, "untyped_storage") else b"none")  # type: ignore[arg-type]
    return running.intdigest()


def physical(tensor: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...] | None:
    """The tensor as contiguous readable CPU memory in physical order, its parts if it has several, None if it has none.

    Called with dispatch modes out of the way: within a handler, or under `no_dispatch`.
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
