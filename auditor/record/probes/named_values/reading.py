"""Reads numbers, arrays and tensors: their dtype, shape and memory, or what is kept instead of it where that is too large.

Never dispatches an op that the script's modes or autograd see, and never asks an object's class for an attribute.
"""

from __future__ import annotations

import ctypes
import math
import struct
import sys
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.digest import unseen
from auditor.record.observers.sketches import Sketcher
from auditor.trace import SUMMARY, SUMS, signs

if TYPE_CHECKING:
    from collections.abc import Callable

#: Values of more elements are not kept whole, but for a name's first where the run is to lend its beginnings to another.
WHOLE = 4096
MISSING: Any = object()

#: What a value is read as: dtype, how the reader is to read it, bytes of an element, shape, elements, bytes (None: too large to keep).
Read = tuple[str, str, int, tuple[int, ...], int, bytes | None]

_summary = struct.Struct(SUMMARY).pack
_double, _long, _complex = (struct.Struct(form).pack for form in ("<d", "<q", "<dd"))
_INT64 = 1 << 63


def of_float(value: float) -> Read:
    """Read one of Python's floats."""
    return "float64", "<f8", 8, (), 1, _double(value)


def of_int(value: int) -> Read | None:
    """Read an int; None if it is too large for 64 bits."""
    return ("int64", "<i8", 8, (), 1, _long(value)) if -_INT64 <= value < _INT64 else None


def of_complex(value: complex) -> Read:
    """Read one of Python's complex numbers."""
    return "complex128", "<c16", 16, (), 1, _complex(value.real, value.imag)


def of_numbers(value: Any, above: int) -> Read | None:
    """Read a long list of Python's numbers, or one of such lists of one length, as an array; None if it is none of more than so many."""
    if type(value) not in (list, tuple) or not value:
        return None
    shape: tuple[int, ...] = (len(value),)
    if type(value[0]) in (list, tuple):
        shape = len(value), len(value[0])
    if not above < math.prod(shape) <= WHOLE:
        return None
    if len(shape) == 2:
        if any(type(row) not in (list, tuple) or len(row) != shape[1] for row in value):
            return None
        value = [entry for row in value for entry in row]
    kinds = set(map(type, value))
    if not kinds <= {int, float}:
        return None
    name, form = ("float64", "d") if float in kinds else ("int64", "q")
    try:
        data = struct.pack(f"<{len(value)}{form}", *value)
    except (struct.error, OverflowError) as error:  # an int of more than 64 bits
        if interrupts(error):
            raise
        return None
    return name, "<f8" if form == "d" else "<i8", 8, shape, len(value), data


class Tensors:
    """Reads tensors."""

    def __init__(self, torch: Any, lose: Callable[[str], None]) -> None:
        self._torch = torch
        self._lose = lose
        self._forms: dict[Any, tuple[str, str, int]] = {}
        self._wrapped = getattr(getattr(torch._C, "_functorch", None), "is_functorch_wrapped_tensor", lambda _tensor: False)
        self._disabled = torch._C.DisableTorchFunction
        self._sketcher = Sketcher(torch)

    def __call__(self, tensor: Any, at_any_size: bool = False) -> Read | None:
        """Read a tensor; None if it has no memory, or no numbers in it."""
        try:
            with self._disabled():
                dtype = tensor.dtype
                name, form, size = self._forms.get(dtype) or self._form(dtype)
                n = tensor.numel()
                shape = tuple(tensor.shape)
                if not form or tensor.is_meta or self._wrapped(tensor):
                    return None
                if n > WHOLE and not at_any_size:
                    return name, form, size, shape, n, None
                if tensor.is_cpu and tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg():
                    address = tensor.data_ptr()
                    return name, form, size, shape, n, ctypes.string_at(address, n * size) if address else b""
                with digest.Unseen():
                    copy = tensor.detach().to_dense() if tensor.layout is not self._torch.strided else tensor.detach()
                    copy = copy.cpu().resolve_conj().resolve_neg().contiguous()
                return name, form, size, shape, n, ctypes.string_at(copy.data_ptr(), n * size) if n else b""
        except Exception as error:  # quantized, nested, captured in a graph: each has its own way of having no memory
            if interrupts(error):
                raise
            self._lose("a tensor that has no memory to be read")
            return None

    @unseen
    def digest(self, tensor: Any) -> int:
        """Digest of the bytes in logical order; on a device one of its own kind, see `record/digest`."""
        if not tensor.is_cpu:
            found = digest.OnDevice(self._torch).of(tensor)
            return 0 if found is None else int(found) % (1 << 64)
        return digest.of_tensor(tensor.detach().contiguous())

    @unseen
    def sketch(self, tensor: Any) -> tuple[float, ...]:
        """As `signs.sketch`, where the tensor is."""
        torch = self._torch
        flat = tensor.detach()
        _, nonfinite, norm, largest, *sums = self._sketcher.of(flat)
        real = torch.view_as_real(flat.resolve_conj()) if flat.is_complex() else flat
        total = torch.where(real.isfinite(), real, torch.zeros((), dtype=real.dtype, device=real.device)) if nonfinite else real
        turned = self._sketcher.of(flat.t().contiguous())[4:] if flat.dim() == 2 else [float("nan")] * SUMS
        return (int(nonfinite), norm, largest, float(total.sum(dtype=torch.float64)), *sums, *turned)

    def _form(self, dtype: Any) -> tuple[str, str, int]:
        name = str(dtype).removeprefix("torch.")
        kind = {"float": "f", "int": "i", "uint": "u", "complex": "c"}.get(name.rstrip("0123456789"), "")
        size = dtype.itemsize
        kind = "" if (kind, size) == ("c", 4) else kind
        form = f"<{kind}{size}" if kind else "bfloat16" if name == "bfloat16" else ""
        found = self._forms[dtype] = (name, "|b1" if name == "bool" else form, size)
        return found


def array(np: Any, value: Any) -> Read | None:
    """Read an array of numbers; None if it holds something else."""
    dtype = value.dtype
    if dtype.kind not in "fiucb":
        return None
    if not dtype.isnative or dtype.itemsize > 16 or (dtype.itemsize == 16 and dtype.kind == "f"):  # extended precision
        value = value.astype(np.float64 if dtype.kind == "f" else np.complex128 if dtype.kind == "c" else dtype.newbyteorder("="))
        return dtype.name, value.dtype.str, value.dtype.itemsize, value.shape, value.size, value.tobytes() if value.size <= WHOLE else None
    size = value.size
    return dtype.name, dtype.str, dtype.itemsize, value.shape, size, value.tobytes() if size <= WHOLE else None


def is_leaf(tensor: Any) -> bool:
    """Whether a tensor is one that gradients are accumulated for."""
    with sys.modules["torch"]._C.DisableTorchFunction():
        return bool(tensor.requires_grad and tensor.is_leaf)


def quoted(key: object) -> str:
    """A key as the script would write it."""
    return f'"{key}"' if type(key) is str else str(key)


def attribute_of(value: Any, name: str) -> Any:
    """An attribute that lies in an object: in its dict, its slots, or what a module of torch holds; `MISSING` if it is made by code."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError as error:
        if interrupts(error):
            raise
        found = None
    if type(found) is dict:
        if name in found:
            return found[name]
        for part in ("_parameters", "_buffers", "_modules"):
            held_there = found.get(part)
            if isinstance(held_there, dict) and name in held_there:
                return dict.__getitem__(held_there, name)
    if issubclass(type(value), type):  # a class as a place for settings
        return next((kind.__dict__[name] for kind in type.mro(value) if name in kind.__dict__), MISSING)
    for kind in type(value).__mro__:
        slot = kind.__dict__.get(name)
        if type(slot) is MemberDescriptorType:
            try:
                return slot.__get__(value, kind)
            except AttributeError as error:
                if interrupts(error):
                    raise
                return MISSING
    return MISSING


def entry_of(value: Any, key: Any) -> tuple[str, Any]:
    """Name and value of an entry of one of torch's lists or dicts of modules or parameters; `MISSING` of anything else."""
    kind = next((one for one in type(value).__mro__ if "__getitem__" in one.__dict__), None)
    if kind is None or kind.__module__ != "torch.nn.modules.container":  # a class of the user's may take keys in its own way
        return "", MISSING
    if type(key) is int:
        within = attribute_of(value, "_modules") or attribute_of(value, "_parameters")
        names = list(within) if isinstance(within, dict) else []
        if not -len(names) <= key < len(names):
            return "", MISSING
        key = names[key]
    return key, attribute_of(value, key)


def is_array(value: Any) -> bool:
    """Whether this is an array or a scalar of NumPy's."""
    np = sys.modules.get("numpy")
    return np is not None and isinstance(value, (np.ndarray, np.number))


def digest_of(value: Any, tensors: Tensors | None) -> int:
    """Digest of the bytes of an array or tensor in logical order."""
    if is_array(value):
        return digest.of_bytes(sys.modules["numpy"].ascontiguousarray(value))
    return 0 if tensors is None else tensors.digest(value)


def whole(value: Any, tensors: Tensors | None) -> bytes | None:
    """The bytes of an array or tensor of any size in logical order."""
    if is_array(value):
        return bytes(value.tobytes())
    found = None if tensors is None else tensors(value, True)
    return None if found is None else found[5]


def summary_of(value: Any, data: bytes | None, tensors: Tensors | None) -> bytes | None:
    """What is kept of a value that is not kept whole, see `trace.SUMMARY`; `data` are its bytes, where they were read. None if it has none.

    Raises whatever torch has against a tensor.
    """
    np = sys.modules.get("numpy")
    if not is_array(value) and data is not None and not hasattr(type(value), "numel"):  # one of Python's own numbers
        if np is None:
            return None
        value = np.asarray(value)
    if is_array(value) and np is not None:
        made = np.asarray(value)
        made = made.astype(made.dtype.newbyteorder("="), copy=False)
        if made.dtype.itemsize >= 16 and (made.dtype.kind == "f" or made.dtype.itemsize > 16):  # extended precision
            made = made.astype(np.float64 if made.dtype.kind == "f" else np.complex128)
        key = digest.of_bytes(data if data is not None else np.ascontiguousarray(made))
        return _summary(key, *signs.sketch(np, made))
    return None if tensors is None else _summary(tensors.digest(value), *tensors.sketch(value))
