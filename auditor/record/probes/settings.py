"""Determinism switches: their values when torch appears, and each change with the line that made it.

They are polled, because a switch can be reached by many ways; the setters that torch documents are also watched, so that a change
has its line. A change by another way is noticed at the next step and has no line. Whether torch has a switch of a name is asked of torch
itself, before the name is given a value.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.probes import Probe
from auditor.record.wrapping import replace, telling, telling_of_a_change

if TYPE_CHECKING:
    from auditor.record.process import Process

ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "CUDA_LAUNCH_BLOCKING", "CUDA_VISIBLE_DEVICES", "KMP_DETERMINISTIC_REDUCTION",
    "MKL_CBWR", "MKL_NUM_THREADS", "NCCL_ALGO", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "PYTORCH_NVFUSER_DISABLE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip

_SETTERS = (
    "set_default_device", "set_default_dtype", "set_deterministic_debug_mode", "set_float32_matmul_precision",
    "set_flush_denormal", "set_num_interop_threads", "set_num_threads", "use_deterministic_algorithms",
)  # fmt: skip


def install(process: Process) -> None:
    """Watch the setting of environment variables: `os.environ[...] = ...` comes to `os.putenv`."""
    at_start = os.environ.get("PYTHONHASHSEED")

    def put(_done: object, name: Any, value: Any) -> None:
        name, value = os.fsdecode(name), os.fsdecode(value)
        if name not in ENVIRONMENT:
            return
        if process.variable_set is not None:
            process.variable_set(name, value)
        elif name == "PYTHONHASHSEED" and value != at_start:
            process.lane().event("setting", name=f"environ:{name}", value=value, initial=False)  # too late since Python started

    replace(os, "putenv", lambda original: telling(original, put, after=True))


def install_torch(process: Process, torch: Any) -> None:
    """Note all settings, watch their setters, and let `process.poll_settings` find other changes."""
    readers = list(_readers(torch).items())
    known: dict[str, object] = {}
    environment: dict[object, object] = {}
    variables = _variables()

    def poll(where: bool) -> None:
        for name, read in readers:
            try:
                value = read()
            except Exception as error:  # a switch that this build does not have, or set by both of its interfaces
                if interrupts(error):
                    raise
                continue
            if value != known.get(name, known):
                note(name, value, where)
        if variables != environment:
            environment.clear()
            environment.update(variables)
            for name in ENVIRONMENT:
                value = os.environ.get(name)
                if value != known.get("environ:" + name, known):
                    note("environ:" + name, value, where)

    def note(name: str, value: object, where: bool, **more: object) -> None:
        first = process.poll_settings is None
        known[name] = value
        shown = value if value is None or isinstance(value, (bool, int, str)) else str(value)
        process.lane().event("setting", where and not first, name=name, value=shown, initial=first, **more)

    def variable_set(name: str, value: str) -> None:
        if value != known.get("environ:" + name, known):
            note("environ:" + name, value, True)

    poll(False)
    process.lane().event(
        "setting", False, name="torch.backends.cpu.get_cpu_capability", value=torch.backends.cpu.get_cpu_capability(), initial=True
    )
    process.poll_settings = poll
    process.variable_set = variable_set
    for name in _SETTERS:
        setter = getattr(torch, name, None)
        if setter is not None:
            setattr(torch, name, telling(setter, lambda *_a, **_k: poll(True), after=True))
    changed = [(torch.backends.ContextProp, "__set__"), (torch.backends.cuda.cuBLASModule, "__setattr__")]
    if hasattr(torch.backends, "_FP32Precision"):  # torch.backends.cudnn.conv.fp32_precision and its kin, since 2.9
        changed.append((torch.backends._FP32Precision, "__setattr__"))
    for cls, name in changed:
        setattr(cls, name, telling(getattr(cls, name), lambda *_a, **_k: poll(True), after=True))

    def switched(_done: object, known_before: int, board: Any, name: str, value: object) -> None:
        if not known_before and isinstance(board, ModuleType) and (value is None or isinstance(value, (bool, int, float, str))):
            note(f"{board.__name__}.{name}", value, True, unknown=True)
        poll(True)

    # Modules with a class of their own take any name without a word: a misspelt switch is one that they did not have before.
    boards = {type(module) for module in vars(torch.backends).values() if isinstance(module, ModuleType)} - {ModuleType}
    for cls in {torch.backends.PropModule, *(cls for cls in boards if not issubclass(cls, torch.backends.PropModule))}:
        cls.__setattr__ = telling_of_a_change(cls.__setattr__, _has, switched)
    # `with torch.backends.cudnn.flags(...)` goes past the properties; it puts back what it set, and so is no change of the script's that
    # has a line.
    for module in (torch.backends.cudnn, torch.backends.mkldnn):
        behind = getattr(module, "m", None)
        if behind is not None and hasattr(behind, "set_flags"):
            behind.set_flags = telling(behind.set_flags, lambda *_a, **_k: poll(False), after=True)


def _has(board: object, name: str, _value: object) -> int:
    """Whether an object has an attribute; one that refuses to be read is there."""
    try:
        return hasattr(board, name)
    except Exception as error:  # a switch that was set by another of its interfaces
        if interrupts(error):
            raise
        return True


def _readers(torch: Any) -> dict[str, Any]:
    return {
        "torch.backends.cudnn.enabled": torch._C._get_cudnn_enabled,
        "torch.backends.cudnn.benchmark": torch._C._get_cudnn_benchmark,
        "torch.backends.cudnn.deterministic": torch._C._get_cudnn_deterministic,
        "torch.backends.cudnn.allow_tf32": torch._C._get_cudnn_allow_tf32,
        "torch.backends.cuda.matmul.allow_tf32": torch._C._get_cublas_allow_tf32,
        "torch.backends.mkldnn.enabled": torch._C._get_mkldnn_enabled,
        "torch.get_float32_matmul_precision": getattr(torch._C, "_get_float32_matmul_precision", torch.get_float32_matmul_precision),
        "torch.are_deterministic_algorithms_enabled": torch._C._get_deterministic_algorithms,
        "torch.is_deterministic_algorithms_warn_only_enabled": torch._C._get_deterministic_algorithms_warn_only,
        "torch.utils.deterministic.fill_uninitialized_memory": torch._C._get_deterministic_fill_uninitialized_memory,
        "torch.get_num_threads": torch.get_num_threads,
        "torch.get_default_dtype": torch.get_default_dtype,
        "torch.get_default_device": lambda: (
            str(torch._GLOBAL_DEVICE_CONTEXT.device_context.device)
            if getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
            else "cpu"
        ),
        # Behind them, so that a switch with two names is known by its older one. Where a script uses the newer interface the older getters
        # raise, and what they said before is no longer so.
        "torch.backends.cudnn.conv.fp32_precision": lambda: torch._C._get_fp32_precision_getter("cuda", "conv"),
        "torch.backends.cudnn.rnn.fp32_precision": lambda: torch._C._get_fp32_precision_getter("cuda", "rnn"),
        "torch.backends.cuda.matmul.fp32_precision": lambda: torch._C._get_fp32_precision_getter("cuda", "matmul"),
        "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction": lambda: _first_of(
            torch._C._get_cublas_allow_fp16_reduced_precision_reduction()
        ),
        "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction": lambda: _first_of(
            torch._C._get_cublas_allow_bf16_reduced_precision_reduction()
        ),
    }


def _first_of(switch: Any) -> Any:
    """The switch itself: torch 2.13 gives it together with that for split-K."""
    return switch[0] if isinstance(switch, tuple) else switch


def _variables() -> Any:
    """The dict behind `os.environ`, which is compared as a whole faster than one variable is read."""
    return getattr(os.environ, "_data", os.environ)


PROBE = Probe(install, install_torch)
