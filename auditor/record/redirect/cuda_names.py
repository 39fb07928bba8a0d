"""What `torch.cuda` and `torch.accelerator` answer where a CUDA device is only passed for: one device, with the memory and time of the CPU.

A graph of CUDA cannot be passed for: it records without running. It is refused, in a sentence.
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from auditor.record.redirect import draws
from auditor.record.redirect.lost_events import by_the_script, in_place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.redirect.lost_events import LostEvents

_NAME = "CPU in place of a CUDA device"
_MEMORY = 80 << 30
_CAPABILITY = (8, 0)

_NOTHING = (
    "synchronize", "empty_cache", "ipc_collect", "init", "_lazy_init", "set_stream", "set_sync_debug_mode", "reset_peak_memory_stats",
    "reset_accumulated_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached", "set_per_process_memory_fraction",
    "caching_allocator_enable", "_sleep", "reset_peak_host_memory_stats", "reset_accumulated_host_memory_stats", "change_current_allocator",
    "empty_host_cache",
)  # fmt: skip
_ZERO = (
    "memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "memory_cached", "max_memory_cached",
    "get_sync_debug_mode", "utilization", "temperature", "power_draw", "clock_rate", "memory_usage", "device_memory_used",
)  # fmt: skip
_GRAPHS = ("CUDAGraph", "graph", "make_graphed_callables")


def install(torch: Any, told: LostEvents, available: bool) -> tuple[Callable[[Any], Any], Callable[[], bool]]:
    """Replace the functions; returns what gives a device its index (`cuda` is the current one, `0` is `cuda:0`), and whether one is in use.

    Not `available`: a script that asks is told that there is none, and torch is from when the script has used one all the same.
    """
    cuda, accelerator = torch.cuda, torch.accelerator
    state = {"index": 0, "used": 0}

    def there() -> bool:
        return available or (state["used"] > 0 and not by_the_script())

    def current(device: Any = None) -> Any:
        found = indexed(device)
        if found.type == "cuda":
            state["used"] = 1
        return found

    def indexed(device: Any) -> Any:
        if device is None:
            return torch.device("cuda", state["index"])
        if isinstance(device, int):
            return torch.device("cuda", state["index"] if device < 0 else device)
        found = torch.device(device)
        return torch.device("cuda", state["index"]) if found.type == "cuda" and found.index is None else found

    def set_device(device: Any) -> None:
        index = indexed(device).index
        if index is not None:
            state["index"] = index

    def exchange(index: int) -> int:
        was, state["index"] = state["index"], index if index >= 0 else state["index"]
        return was

    stream, event = _streams(indexed)
    properties = SimpleNamespace(
        name=_NAME, major=_CAPABILITY[0], minor=_CAPABILITY[1], total_memory=_MEMORY, multi_processor_count=108, warp_size=32,
        is_integrated=0, is_multi_gpu_board=0, max_threads_per_multi_processor=2048, max_threads_per_block=1024, L2_cache_size=40 << 20,
        regs_per_multiprocessor=65536, shared_memory_per_block=48 << 10, shared_memory_per_block_optin=163 << 10,
        shared_memory_per_multiprocessor=164 << 10, gcnArchName=_NAME, uuid="", pci_bus_id=0, pci_device_id=0, pci_domain_id=0,
    )  # fmt: skip
    now = {"stream": stream()}

    class Within:
        """`with torch.cuda.stream(s)`."""

        def __init__(self, entered: Any = None, *_args: Any, **_kwargs: Any) -> None:
            self.stream = entered

        def __enter__(self) -> None:
            self.was = now["stream"]
            if self.stream is not None:
                now["stream"] = self.stream

        def __exit__(self, *error: object) -> None:
            now["stream"] = self.was

    answers: dict[str, Any] = {
        "is_available": there,
        "is_initialized": there,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: int(there()),
        "current_device": lambda: state["index"],
        "set_device": set_device,
        "_exchange_device": exchange,
        "_maybe_exchange_device": exchange,
        "get_device_name": lambda device=None: _NAME,
        "get_device_capability": lambda device=None: _CAPABILITY,
        "get_device_properties": lambda device=None: properties,
        "can_device_access_peer": lambda device, peer_device: True,
        "is_bf16_supported": lambda including_emulation=True: True,
        "is_tf32_supported": lambda: True,
        "get_arch_list": lambda: ["sm_80"],
        "get_gencode_flags": lambda: "",
        "is_current_stream_capturing": lambda: False,
        "_lazy_call": lambda call, **_options: call(),
        "current_stream": lambda device=None: now["stream"],
        "default_stream": lambda device=None: stream(device),
        "stream": Within,
        "memory_stats": lambda device=None: {},
        "memory_stats_as_nested_dict": lambda device=None: {},
        "memory_snapshot": lambda *args, **kwargs: [],
        "memory_summary": lambda device=None, abbreviated=False: "",
        "mem_get_info": lambda device=None: (_MEMORY, _MEMORY),
        "list_gpu_processes": lambda device=None: "",
        "get_allocator_backend": lambda: "native",
        **dict.fromkeys(_NOTHING, lambda *args, **kwargs: None),
        **dict.fromkeys(_ZERO, lambda *args, **kwargs: 0),
    }
    for module in (cuda, cuda.memory):
        for name, answer in answers.items():
            plain = getattr(module, name, None)
            if callable(plain):
                setattr(module, name, in_place_of(plain, answer, ours=False))
    for module in (cuda, cuda.streams):
        module.Stream, module.Event = stream, event
    draws.install_seeds(torch, told)
    cuda.default_generators = (torch.default_generator,) * 64
    cuda._initialized = False

    for name in _GRAPHS:
        setattr(cuda, name, _refused(name, told))
    ranges = getattr(cuda.nvtx, "_nvtx", None)
    if ranges is not None:
        nothing = dict.fromkeys(("rangePushA", "rangePop", "rangeStartA"), lambda *_args: 0)
        cuda.nvtx._nvtx = SimpleNamespace(**nothing, **dict.fromkeys(("rangeEnd", "markA"), lambda *_args: None))
    torch.backends.cuda.is_built = in_place_of(torch.backends.cuda.is_built, there)
    cudnn = sys.modules["torch.backends.cudnn"]
    cudnn.is_acceptable = in_place_of(cudnn.is_acceptable, lambda _tensor: False)  # type: ignore[attr-defined]  # else it warns

    accelerated: dict[str, Any] = {
        "is_available": there,
        "device_count": lambda: int(there()),
        "current_accelerator": lambda check_available=False: torch.device("cuda") if there() else None,
        "current_device_index": answers["current_device"],
        "current_device_idx": answers["current_device"],
        "set_device_index": set_device,
        "set_device_idx": set_device,
        "current_stream": answers["current_stream"],
        "set_stream": answers["set_stream"],
        "synchronize": answers["synchronize"],
        "get_memory_info": answers["mem_get_info"],
        **{name: answers[name] for name in (*_NOTHING, *_ZERO, "memory_stats")},
    }
    for name, answer in accelerated.items():
        plain = getattr(accelerator, name, None)
        if callable(plain):
            setattr(accelerator, name, in_place_of(plain, answer, ours=False))
    return current, lambda: state["used"] > 0


def _streams(indexed: Callable[[Any], Any]) -> tuple[type, type]:
    """Stream and event of a device on which everything is done when it is asked for."""

    class Stream:
        """Passes for `torch.cuda.Stream`."""

        def __init__(self, device: Any = None, priority: int = 0, **_kwargs: Any) -> None:
            self.device = indexed(device)
            self.priority = priority
            self.device_index = self.device.index
            self.stream_id = self.cuda_stream = 0
            self.device_type = 1

        def wait_event(self, event: Any) -> None: ...
        def wait_stream(self, stream: Any) -> None: ...
        def synchronize(self) -> None: ...

        def query(self) -> bool:
            return True

        def is_capturing(self) -> bool:
            return False

        def record_event(self, event: Any = None) -> Any:
            event = Event() if event is None else event
            event.record(self)
            return event

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None: ...

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Stream) and other.device == self.device

        def __hash__(self) -> int:
            return hash(self.device)

    class Event:
        """Passes for `torch.cuda.Event`: its time is the CPU's."""

        def __init__(self, *_args: Any, **_kwargs: Any) -> None:
            self.at: float | None = None

        def record(self, stream: Any = None) -> None:
            self.at = time.perf_counter()

        def wait(self, stream: Any = None) -> None: ...
        def synchronize(self) -> None: ...

        def query(self) -> bool:
            return True

        def elapsed_time(self, end_event: Any) -> float:
            if self.at is None or end_event.at is None:
                raise RuntimeError("Both events must be recorded before calculating elapsed time.")
            return float((end_event.at - self.at) * 1000)

    return Stream, Event


def _refused(name: str, told: LostEvents) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        sentence = f"torch.cuda.{name}: a CUDA graph records without running, which the CPU cannot pass for"
        told.lost(sentence)
        raise RuntimeError(sentence)

    if name == "make_graphed_callables":
        return in_place_of(refuse, refuse)
    return type(name, (), {"__init__": in_place_of(refuse, refuse)})  # a class, because libraries annotate with it
