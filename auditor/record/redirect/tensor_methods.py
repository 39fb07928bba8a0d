"""What a tensor says of its device, and how it is moved, where devices are logical."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record.redirect.logical import logical_device, put, storage_of
from auditor.record.redirect.lost_events import in_place_of, property_in_place_of

if TYPE_CHECKING:
    from collections.abc import Callable

_NEW = ("new_tensor", "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided")
_LIKE = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like")
#: Factories that copy within C++, below any mode: their result is moved.
_COPYING = ("tensor", "as_tensor", "asarray", "sparse_coo_tensor", "sparse_compressed_tensor", "sparse_csr_tensor", "sparse_csc_tensor",
            "sparse_bsr_tensor", "sparse_bsc_tensor")  # fmt: skip


def install(torch: Any, current: Callable[[Any], Any]) -> Callable[..., Any]:
    """Replace the methods and properties; `current(device)` is a CUDA device with its index, or the CPU.

    Returns what moves a tensor to a device that has its index.
    """
    base, cls, cpu = torch._C.TensorBase, torch.Tensor, torch.device("cpu")
    parse = torch._C._nn._parse_to
    plain_to = base.to

    def device_of(tensor: Any) -> Any:
        here = base.device.__get__(tensor)
        return (logical_device(tensor) or here) if here.type == "cpu" else here

    def on_cuda(tensor: Any) -> bool:
        return logical_device(tensor) is not None

    def moved(tensor: Any, device: Any, **how: Any) -> Any:
        """`tensor.to(device, **how)` for a device with its index: a copy if it is another one."""
        if device.type not in ("cuda", "cpu"):
            return plain_to(tensor, device, **how)
        here = device_of(tensor)
        if here.type not in ("cuda", "cpu") or here == device:
            result = plain_to(tensor, "cpu", **how)
            if result is not tensor:
                put(result, device)
            return result
        result = plain_to(tensor, "cpu", **{**how, "copy": True})
        put(result, device)
        return result

    def to(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        other = args[0] if args and isinstance(args[0], cls) else kwargs.get("other")
        if other is not None:
            rest = dict(zip(("non_blocking", "copy"), args[1:] if args and args[0] is other else args, strict=False))
            rest |= {name: value for name, value in kwargs.items() if name != "other"}
            return moved(tensor, device_of(other), dtype=other.dtype, **rest)
        wanted = args[0] if args else kwargs.get("device")
        if wanted is None or isinstance(wanted, torch.dtype):
            if kwargs.get("device") is None:
                return plain_to(tensor, *args, **kwargs)
            wanted = kwargs["device"]
        wanted = current(wanted)
        rest = dict(zip(("dtype", "non_blocking", "copy"), args[1:] if args and not isinstance(args[0], torch.dtype) else (), strict=False))
        if args and isinstance(args[0], torch.dtype):
            rest = dict(zip(("dtype", "non_blocking", "copy"), args, strict=False))
        if len(args) == 2 and isinstance(args[1], bool):  # to(device, non_blocking)
            rest = {"non_blocking": args[1]}
        rest |= {name: value for name, value in kwargs.items() if name != "device"}
        if rest.get("dtype", 0) is None:
            del rest["dtype"]
        return moved(tensor, wanted, **rest)

    def parse_to(*args: Any, **kwargs: Any) -> Any:
        """What `Module.to` understands its arguments by; C++ has no index for `0`, and the wrong device of a tensor."""
        if args and isinstance(args[0], cls):
            return device_of(args[0]), *parse(*args, **kwargs)[1:]
        if args and isinstance(args[0], int) and not isinstance(args[0], bool):
            args = (current(args[0]), *args[1:])
        if isinstance(kwargs.get("device"), int):
            kwargs = {**kwargs, "device": current(kwargs["device"])}
        device, *rest = parse(*args, **kwargs)
        return (device if device is None else current(device), *rest)

    def cuda(tensor: Any, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Any:
        how = {} if memory_format is None else {"memory_format": memory_format}
        return moved(tensor, current("cuda" if device is None else device), non_blocking=non_blocking, **how)

    def to_cpu(tensor: Any, memory_format: Any = None) -> Any:
        return moved(tensor, cpu, **({} if memory_format is None else {"memory_format": memory_format}))

    def kind(tensor: Any, dtype: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
        if dtype is None:
            name: str = base.type(tensor)
            return name.replace("torch.", "torch.cuda.", 1) if on_cuda(tensor) else name
        if isinstance(dtype, torch.dtype):
            return base.type(tensor, dtype, non_blocking, **kwargs)
        text = dtype if isinstance(dtype, str) else f"{dtype.__module__}.{dtype.__name__}"
        result = base.type(tensor, text.replace("torch.cuda.", "torch."), non_blocking, **kwargs)
        return moved(
            result, current("cuda") if ".cuda." in text and not on_cuda(tensor) else device_of(tensor) if ".cuda." in text else cpu
        )

    def pin_memory(tensor: Any, device: Any = None) -> Any:
        if is_pinned(tensor):
            return tensor
        if on_cuda(tensor):
            raise RuntimeError(f"cannot pin '{kind(tensor)}' only dense CPU tensors can be pinned")
        result = tensor.clone()
        put(result, cpu)
        setattr(storage_of(result), "_repro_audit_pinned", True)  # noqa: B010  # our own name on torch's object
        return result

    def is_pinned(tensor: Any, device: Any = None) -> bool:
        return bool(getattr(storage_of(tensor), "_repro_audit_pinned", False))

    def numpy(tensor: Any, *, force: bool = False) -> Any:
        if on_cuda(tensor) and not force:
            raise TypeError(
                f"can't convert {device_of(tensor)} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return base.numpy(tensor, force=force)

    def type_as(tensor: Any, other: Any) -> Any:
        return moved(tensor, device_of(other), dtype=other.dtype)

    def get_device(tensor: Any) -> int:
        device = logical_device(tensor)
        return int(base.get_device(tensor)) if device is None else device.index

    methods: dict[str, Any] = {
        "to": to, "cuda": cuda, "cpu": to_cpu, "type": kind, "pin_memory": pin_memory, "is_pinned": is_pinned, "numpy": numpy,
        "type_as": type_as, "get_device": get_device, "record_stream": lambda *_args: None,
    }  # fmt: skip
    for name, method in methods.items():
        setattr(cls, name, in_place_of(getattr(base, name), method))
    cls.device = property_in_place_of(base.device, device_of)
    cls.is_cuda = property_in_place_of(base.is_cuda, on_cuda)
    cls.is_cpu = property_in_place_of(base.is_cpu, lambda tensor: not on_cuda(tensor) and base.is_cpu.__get__(tensor))
    cls.__dlpack_device__ = in_place_of(cls.__dlpack_device__, lambda _tensor: (torch.utils.dlpack.DLDeviceType.kDLCPU, 0))
    torch._C._nn._parse_to = in_place_of(parse, parse_to)

    def indexed(function: Any) -> Any:
        """C++ has no device for `device=0` where there is no accelerator."""

        def make(*args: Any, **kwargs: Any) -> Any:
            device = kwargs.get("device")
            if device is not None:
                kwargs["device"] = current(device)
            return function(*args, **kwargs)

        return make

    def copied(function: Any, fresh: bool) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            device = kwargs.pop("device", None)
            pinned = kwargs.pop("pin_memory", False)
            source = args[0] if args else None
            wanted = current(device) if device is not None else logical_device(source) if isinstance(source, cls) else None
            if wanted is None or wanted.type == "meta":
                made = function(*args, **kwargs, **({} if wanted is None else {"device": wanted}))
            elif fresh:
                made = function(*args, **kwargs, device="cpu")
                put(made, wanted)
            else:
                made = function(*args, **kwargs)
                made = moved(made, wanted)
            return made.pin_memory() if pinned else made

        return make

    def new_tensor(tensor: Any, data: Any, **kwargs: Any) -> Any:
        device = kwargs.pop("device", None)
        made = base.new_tensor(tensor, data, **kwargs)
        put(made, device_of(tensor) if device is None else current(device))
        return made

    def new(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        made = base.new(tensor, *args, **kwargs)
        if on_cuda(tensor):
            put(made, device_of(tensor))
        return made

    for name in _NEW[1:]:
        setattr(cls, name, in_place_of(getattr(base, name), indexed(getattr(base, name))))
    cls.new_tensor = in_place_of(base.new_tensor, new_tensor)
    cls.new = in_place_of(base.new, new)

    from torch.utils import _device  # torch imports it for the first default device

    constructors = _device._device_constructors()
    builtins = torch.jit._builtins._builtin_table or {}
    own: dict[Any, Any] = {}
    factories = [*_LIKE, *(name for name in dir(torch) if _among(getattr(torch, name), constructors))]
    for name in dict.fromkeys(factories):
        plain = getattr(torch, name)
        body = copied(plain, fresh=name == "tensor" or name.startswith("sparse")) if name in _COPYING else indexed(plain)
        own[plain] = body
        stand_in = in_place_of(plain, body)
        if id(plain) in builtins:
            torch.jit._builtins._register_builtin(stand_in, builtins[id(plain)])
        setattr(torch, name, stand_in)

    def in_context(context: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """`torch.set_default_device` and `with torch.device("cuda")`: C++ asks them with the functions that it knows."""
        kwargs = kwargs or {}
        if func in constructors and kwargs.get("device") is None:
            return own.get(func, func)(*args, **{**kwargs, "device": context.device})
        return func(*args, **kwargs)

    contexts: Any = _device.DeviceContext
    contexts.__torch_function__ = in_place_of(contexts.__torch_function__, in_context, ours=False)
    plain_type = torch.set_default_tensor_type

    def set_default_tensor_type(kind: Any) -> None:
        text = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
        plain_type(text.replace("torch.cuda.", "torch."))
        torch.set_default_device("cuda" if ".cuda." in text else None)

    torch.set_default_tensor_type = in_place_of(plain_type, set_default_tensor_type)
    return moved


def _among(function: Any, functions: Any) -> bool:
    try:
        return function in functions
    except TypeError:  # not hashable
        return False
