"""A script that says `cuda`, on the CPU: the dispatch mode that gives each new storage its logical device, and all that stands around it.

The memory is the CPU's; what a script can ask of a tensor (`device`, `is_cuda`, what `.to` copies and what it does not) is answered as
on a CUDA device, so that a snapshot by `.cpu()` is a copy and a second `.cuda()` is none.

It is more lenient than a device in one way: of ops given tensors of two devices only those in `_STRICT` refuse, and only where an op
made both: what came from NumPy, a loader or torch's own C++ code (`at::tensor` within `ctc_loss`) is taken as it is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from auditor.record.callsite import hide_us
from auditor.record.imports import when_imported
from auditor.record.mode import THEIRS, TRACED, Unnoticed, whose
from auditor.record.redirect import autocast, cuda_names, draws, tensor_methods
from auditor.record.redirect.logical import NAME, UNDECIDED, each_tensor, storage_of, tensors_in
from auditor.record.redirect.lost_events import in_place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.process import Process
    from auditor.record.redirect.lost_events import LostEvents

#: Ops that refuse tensors of two devices whatever their shapes, up to a tensor of no dimension. Others move or accept one from the CPU.
_STRICT = frozenset(
    "aten." + name
    for name in (
        "add.Tensor", "add_.Tensor", "sub.Tensor", "sub_.Tensor", "mul.Tensor", "mul_.Tensor", "div.Tensor", "div_.Tensor", "mm.default",
        "mv.default", "dot.default", "addmm.default", "bmm.default", "baddbmm.default", "convolution.default", "embedding.default",
        "mse_loss.default", "nll_loss_forward.default", "binary_cross_entropy.default", "native_layer_norm.default", "cat.default",
        "eq.Tensor", "lt.Tensor", "gt.Tensor",
    )
)  # fmt: skip
#: Outputs that are the CPU's wherever the inputs are: position by op.
_ALWAYS_ON_CPU = {"aten._pack_padded_sequence.default": 1}


def install(process: Process, torch: Any, told: LostEvents, available: bool = True) -> Callable[[], Any]:
    """Put everything in place but the mode itself; returns what makes one, to be entered by each thread.

    `available`: what a script that asks whether there is a CUDA device is told.
    """
    current, used = cuda_names.install(torch, told, available)
    moved = tensor_methods.install(torch, current)
    autocast.install(torch)
    draws.install_generators(torch, told)
    _install_serialization(torch, current)
    compiled = _install_compilation(torch, told, used)
    _install_processes(torch, told, current, moved)
    return mode_of(torch, current, compiled)


def mode_of(torch: Any, current: Callable[[Any], Any], compiled: Callable[[], bool]) -> Callable[[], Any]:
    """What makes the dispatch mode; `current` gives a CUDA device its index, `compiled` says whether some of the ops may not be seen."""
    from torch.utils import _python_dispatch

    tensor_type, cpu = torch.Tensor, torch.device("cpu")
    in_backward = torch._C._current_graph_task_id

    class Pretence(Unnoticed, _python_dispatch.TorchDispatchMode):
        """Runs each op on the CPU, and marks what it makes."""

        def __init__(self) -> None:
            super().__init__()
            self.last: Any = UNDECIDED  # the device of the last op: what a backward formula makes out of nothing is of the same

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            try:
                who = whose(types)
                if who == THEIRS:
                    return NotImplemented
                if who == TRACED:
                    return getattr(func, "_op", func)(*args, **(kwargs or {}))
                return self.run(func, args, kwargs or {})
            except BaseException as error:
                hide_us(error)
                raise

        def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            given = tensors_in(kwargs.values(), tensor_type, tensors_in(args, tensor_type, []))
            storages = [storage_of(tensor) for tensor in given]
            held = [getattr(storage, NAME, None) for storage in storages]
            there = [device for device in held if device is not None and device is not UNDECIDED and device.type != "cpu"]
            where = there[0] if there else None
            asked = kwargs.get("device")
            explicit = "pin_memory" in kwargs  # as Python's bindings give it; C++ code passes a tensor's own options on, without
            if there:
                self.last = where
                refuse_two_devices(str(func), given, held, where)
            if asked is not None and torch.device(asked).type == "cuda":
                wanted: Any = current(asked)
                kwargs = {**kwargs, "device": cpu}
            elif asked is not None and torch.device(asked).type != "cpu":
                wanted = None  # meta, and other devices that are what they say
            elif asked is not None and explicit:
                wanted = cpu
            elif where is not None:
                wanted = where
            elif given:
                # C++ code that says `x.to(y.options())` may mean the device of y (as `ctc_loss` does with lengths)
                wanted = (
                    UNDECIDED if UNDECIDED in held or None in held or (asked is not None and str(func) == "aten._to_copy.default") else cpu
                )
            elif explicit:
                wanted = cpu
            else:
                wanted = self.last if in_backward() >= 0 else UNDECIDED
            pinned = kwargs.get("pin_memory")
            if pinned:
                kwargs = {**kwargs, "pin_memory": False}
            sets = str(func).startswith("aten.set_.")  # the storage has its own history, or is from outside
            out = getattr(func, "_op", func)(*args, **kwargs)  # without the frame of OpOverload.__call__
            schema = getattr(func, "_schema", None)
            if where is not None and UNDECIDED in held and schema is not None and schema.is_mutable:
                for storage, device in zip(storages, held, strict=True):
                    if device is UNDECIDED:
                        setattr(storage, NAME, where)
            always = _ALWAYS_ON_CPU.get(str(func))
            for position, made in enumerate(tensors_in((out,), tensor_type, [])):
                storage = storage_of(made)
                if storage is None or wanted is None or sets or hasattr(storage, NAME):
                    continue
                if not any(storage is other for other in storages):
                    setattr(storage, NAME, cpu if position == always else wanted)
                    if pinned:
                        storage._repro_audit_pinned = True
            return out

    def refuse_two_devices(name: str, given: list[Any], held: list[Any], where: Any) -> None:
        if name not in _STRICT or compiled():
            return
        for tensor, device in zip(given, held, strict=True):
            if tensor.dim() and device is not None and device is not UNDECIDED and device != where:
                raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {where} and {device}!")

    return Pretence


def _install_serialization(torch: Any, current: Callable[[Any], Any]) -> None:
    """Files name the device that a tensor passed for being on, as they would on a machine with one."""

    def tag(storage: Any) -> str | None:
        device = getattr(storage, NAME, None)
        return str(device) if device is not None and device is not UNDECIDED and device.type == "cuda" else None

    def restored(storage: Any, location: str) -> Any:
        if not location.startswith("cuda"):
            return None
        setattr(storage, NAME, current(location))
        return storage

    torch.serialization.register_package(0, tag, restored)

    storages = torch.storage._StorageBase

    def clone(storage: Any) -> Any:  # what deepcopy does
        made = plain_clone(storage)
        if hasattr(storage, NAME):
            setattr(made, NAME, getattr(storage, NAME))
        return made

    def moved(storage: Any, device: Any) -> Any:
        was = getattr(storage, NAME, None)
        if (was if was is not UNDECIDED else None) == device or (was is None and device.type == "cpu"):
            return storage
        made = plain_clone(storage)
        setattr(made, NAME, device)
        return made

    plain_clone = storages.clone
    storages.clone = in_place_of(plain_clone, clone)
    storages.cpu = in_place_of(storages.cpu, lambda storage: moved(storage, torch.device("cpu")))
    storages.cuda = in_place_of(storages.cuda, lambda storage, device=None, non_blocking=False: moved(storage, current(device)))


def _install_compilation(torch: Any, told: LostEvents, used: Callable[[], bool]) -> Callable[[], bool]:
    """What compiles for a device runs as it is written, once the script has used one; returns whether anything was compiled before."""
    done: list[bool] = []

    def compiled(model: Any = None, **options: Any) -> Any:
        if not used():
            done.append(True)
            return plain(model, **options)
        told.lost("torch.compile: on a device that only passes for one, the code runs as it is written, not compiled")
        return plain(model, **{**options, "disable": True})

    plain = torch.compile
    torch.compile = in_place_of(plain, compiled)
    extension = "torch.utils.cpp_extension"

    def built(module: Any) -> None:
        for name in ("load", "load_inline"):
            setattr(module, name, in_place_of(getattr(module, name), _telling_of_kernels(getattr(module, name), told)))

    when_imported(extension, built)
    for name in ("cupy", "numba.cuda"):
        when_imported(name, lambda module: told.lost(f"{module.__name__}: its kernels run on a CUDA device only, and this run has none"))

    def kernels(module: Any) -> None:
        plain = module.JITFunction.run

        def run(*args: Any, **kwargs: Any) -> Any:
            told.lost("a Triton kernel: it runs on a CUDA device only, and this run has none")
            return plain(*args, **kwargs)

        module.JITFunction.run = in_place_of(plain, run)

    when_imported("triton.runtime.jit", kernels)
    return lambda: bool(done)


def _install_processes(torch: Any, told: LostEvents, current: Callable[[Any], Any], moved: Callable[[Any, Any], Any]) -> None:
    """Several processes talk through gloo; `DataParallel` over one device would scatter to it in C++ that is not there."""
    parallel = torch.nn.DataParallel
    plain = parallel.scatter

    def scatter(module: Any, inputs: Any, kwargs: Any, device_ids: Any) -> Any:
        if len(device_ids) != 1:
            return plain(module, inputs, kwargs, device_ids)
        return tuple(([each_tensor(part, torch.Tensor, lambda t: moved(t, current(device_ids[0])))]) for part in (inputs, kwargs))

    parallel.scatter = in_place_of(plain, scatter)

    def distributed(module: Any) -> None:
        start = module.init_process_group

        def started(backend: Any = None, *args: Any, **kwargs: Any) -> Any:
            kwargs.pop("device_id", None)
            if backend is None or "nccl" in str(backend):
                told.lost("the NCCL backend: gloo stands in for it")
                backend = "gloo"
            return start(backend, *args, **kwargs)

        module.init_process_group = in_place_of(start, started)
        inner = sys.modules.get("torch.distributed.distributed_c10d")
        if inner is not None:
            inner.init_process_group = module.init_process_group  # type: ignore[attr-defined]  # where torch's own launchers find it
        module.is_nccl_available = in_place_of(module.is_nccl_available, lambda: True)

    if torch.distributed.is_available():
        when_imported("torch.distributed", distributed)


def _telling_of_kernels(function: Any, told: LostEvents) -> Any:
    def build(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("cuda_sources") or kwargs.get("with_cuda") or any(str(path).endswith(".cu") for path in args[1:2] or [""]):
            told.lost("a CUDA extension of the script's own: it cannot be built for, nor run on, the CPU")
        return function(*args, **kwargs)

    return build
