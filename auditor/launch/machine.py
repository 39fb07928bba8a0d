"""Facts about the machine, its software and the environment, for run.json, so that two kept runs can be told apart later."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from auditor.plan import Plan
from auditor.redaction import redacted_variables

#: Packages whose version affects numerical results.
_PACKAGES = ("torch", "numpy", "scipy", "transformers", "lightning", "torch-geometric", "torchvision", "accelerate", "triton", "mkl")
_PREFIXES = (
    "ATEN_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "GLIBC_TUNABLES", "GOMP_", "KMP_", "LANG", "LC_", "MALLOC_", "MKL_", "NCCL_", "NVIDIA_",
    "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHONHASHSEED", "PYTORCH_", "TORCH", "TZ", "XLA_",
)  # fmt: skip


def describe(plan: Plan) -> dict[str, Any]:
    """`machine`, `versions`, `environment` and the digest of the script. Only variables that can change numbers; no credentials."""
    environment = dict(os.environ) | plan.variables
    return {
        "machine": _machine(),
        "versions": _versions(plan.python),
        "environment": redacted_variables({name: value for name, value in sorted(environment.items()) if name.startswith(_PREFIXES)}),
        "script_digest": _script_digest(plan),
    }


@lru_cache(maxsize=1)
def _machine() -> dict[str, Any]:
    return {
        "host": platform.node(), "system": f"{platform.system()} {platform.release()}", "processor": _processor(), "cores": _cores(),
    }  # fmt: skip


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@lru_cache(maxsize=8)
def _versions(python: str) -> dict[str, str]:
    """Versions as the child's interpreter has them; if it is another interpreter, it is asked."""
    if python != sys.executable:
        try:
            found = subprocess.run([python, "-V"], capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return {}
        return {"python": found.stdout.split()[-1] if found.stdout else "?"}
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _script_digest(plan: Plan) -> str | None:
    script = next((word for word in plan.script if word.endswith(".py")), None)
    if script is None:
        return None
    try:
        return hashlib.sha256((Path(plan.cwd) / script).read_bytes()).hexdigest()[:16]
    except OSError:
        return None
