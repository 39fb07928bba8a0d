"""What `--devices` can name: a `torch.device`, or a CPU with fewer features than this one.

A CPU variant stands for another machine: which instructions torch, oneDNN and MKL may use, the number of threads, whether oneDNN is used at
all. Environment variables set it before torch is imported, because each library reads them only once.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from auditor.errors import UsageError
from auditor.plan import Plan

#: An instruction set as each library calls it. oneDNN has no kernels below SSE4.1; MKL's `COMPATIBLE` runs everywhere.
_MACHINES = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_CBWR": "AVX512"},
}
#: Settings of one library alone: its variable, and the values that it accepts.
_LIBRARIES = {
    "aten": ("ATEN_CPU_CAPABILITY", ("default", "avx2", "avx512")),
    "onednn": ("ONEDNN_MAX_CPU_ISA", ("sse41", "avx", "avx2", "avx2_vnni", "avx512_core", "avx512_core_vnni", "avx512_core_bf16", "all")),
    "mkl": ("MKL_CBWR", ("compatible", "sse4_2", "avx", "avx2", "avx512", "auto", "off")),
}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
#: Flags that a CPU must list in /proc/cpuinfo to run code for an instruction set; without them the process is killed.
_FLAGS = {"avx2": ("avx2", "fma"), "avx512": ("avx512f", "avx512bw", "avx512vl", "avx512dq")}
_KINDS = ("cpu", "cuda", "xpu", "mps", "hpu", "privateuseone")
_EXAMPLES = "cpu, cuda, cuda:1, cpu:avx2, cpu:default, cpu:threads=1, cpu:mkldnn=off, cpu:mkl=compatible, cpu:avx2+threads=1"


@dataclass(frozen=True)
class Device:
    """One device to run on. `name` is as the user wrote it; `variables` are set in the environment of the run."""

    name: str
    kind: str
    index: int | None = None
    variables: tuple[tuple[str, str], ...] = ()
    mkldnn: bool = True

    @property
    def is_cpu(self) -> bool:
        """Whether it computes on the CPU."""
        return self.kind == "cpu"


def parse(names: str) -> list[Device]:
    """The devices of a list such as `cpu,cuda` or `cpu,cpu:avx2`. Raises `UsageError`: `no-such-device`, `device-twice`."""
    devices = [_device(name.strip()) for name in names.split(",") if name.strip()]
    if not devices:
        raise UsageError("no-such-device", f"--devices {names}: expected a list such as cpu,cuda; the devices are {_EXAMPLES}")
    for k, device in enumerate(devices):
        if any(replace(device, name="") == replace(other, name="") for other in devices[:k]):
            raise UsageError("device-twice", f"--devices {names}: {device.name} is listed twice, and cannot differ from itself")
    return devices


def plan_on(plan: Plan, device: Device, available: bool) -> Plan:
    """The plan of a run on a device. `available`: the answer to a script that asks whether there is a GPU."""
    within = {"kind": device.kind, "index": device.index, "mkldnn": device.mkldnn, "available": available}
    return plan.with_device(device.name, (*device.variables, *_own_cache(device)), within)


def _own_cache(device: Device) -> tuple[tuple[str, str], ...]:
    """A separate Inductor cache for each instruction set other than this machine's.

    torch 2.13 reuses code compiled for one instruction set for another (ATEN_CPU_CAPABILITY is not part of the cache key): the compiler
    then fails, or the process ends with SIGSEGV.
    """
    capability = dict(device.variables).get("ATEN_CPU_CAPABILITY")
    if capability is None:
        return ()
    usual = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or str(Path(tempfile.gettempdir(), f"torchinductor_repro_audit_{os.getuid()}"))
    return (("TORCHINDUCTOR_CACHE_DIR", f"{usual}-{capability}"),)


def missing_instructions(device: Device) -> str | None:
    """Why this CPU cannot stand for that device; None if it can, or if its features are unknown."""
    wanted = dict(device.variables).get("ATEN_CPU_CAPABILITY", "")
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    flags = re.search(r"^flags\s*:(.*)$", described, re.MULTILINE)
    if flags is None:
        return None if wanted in ("", "default") else "this CPU is not an x86"
    absent = set(_FLAGS.get(wanted, ())) - set(flags[1].split())
    return f"this CPU has no {wanted}" if absent else None


def not_found(device: Device, error: Exception) -> str:
    """Why torch cannot use a device."""
    return f"torch finds no {device.kind}:{device.index or 0} here ({str(error).splitlines()[0][:80]})"


def _device(name: str) -> Device:
    kind, _, rest = name.lower().partition(":")
    if kind not in _KINDS:
        near = get_close_matches(kind, _KINDS, 1)
        raise UsageError(
            "no-such-device", f"there is no device {name}{f'; did you mean {near[0]}?' if near else f'; the devices are {_EXAMPLES}'}"
        )
    if kind != "cpu":
        if rest and not rest.isdigit():
            raise UsageError("no-such-device", f"{name}: after {kind}: comes a number, as in {kind}:1")
        return Device(name, kind, int(rest) if rest else None)
    variables: dict[str, str] = {}
    mkldnn = True
    for part in filter(None, rest.split("+")):
        key, has_value, value = part.partition("=")
        if not has_value and key in _MACHINES:
            variables |= _MACHINES[key]
        elif key in _LIBRARIES and value in _LIBRARIES[key][1]:
            variables[_LIBRARIES[key][0]] = value.upper() if key != "aten" else value
        elif key == "threads" and value.isdigit() and int(value):
            variables |= dict.fromkeys(_THREADS, value)
        elif key == "mkldnn" and value in ("on", "off"):
            mkldnn = value == "on"
        else:
            raise UsageError("no-such-device", f"{name}: {part} is not a variant of a CPU; {_variants(key)}")
    return Device(name, "cpu", None, tuple(sorted(variables.items())), mkldnn)


def _variants(key: str) -> str:
    if key in _LIBRARIES:
        return f"{key} can be {', '.join(_LIBRARIES[key][1])}"
    return f"the variants are {', '.join(_MACHINES)}, {'=..., '.join(_LIBRARIES)}=..., threads=N, mkldnn=on and mkldnn=off"
