"""`tf32`: float32 products with a mantissa of ten bits, on GPUs that support it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.factors import Factor, needs_cuda

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    return plan.with_environment(NVIDIA_TF32_OVERRIDE="0")


def _vary(plan: Plan) -> Plan:
    return plan.with_environment(TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1")


def _unavailable() -> str | None:
    missing = needs_cuda()
    if missing is not None:
        return missing
    import torch

    return None if torch.cuda.get_device_capability()[0] >= 8 else "this GPU has no TF32"


FACTOR = Factor(
    name="tf32",
    because="products are computed in TF32",
    why="float32 products may be computed in TF32, with about three digits, where the GPU and the settings allow it",
    remedy='torch.set_float32_matmul_precision("highest")',
    pin=_pin,
    vary=_vary,
    unavailable=_unavailable,
    numerical=True,
    order=18,
    kinds={"kernel-on-cuda": 2},
    changes="TF32 changes",
)
