"""`cpu-isa`: the instruction set for which torch, oneDNN and MKL choose their kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.factors import Factor

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    return plan.with_environment(ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41", MKL_CBWR="COMPATIBLE")


def _vary(plan: Plan) -> Plan:
    usual = plan.variable("ATEN_CPU_CAPABILITY")
    return plan.with_environment(
        ATEN_CPU_CAPABILITY="avx2" if usual == "default" else "default", ONEDNN_MAX_CPU_ISA="AVX2", MKL_CBWR="COMPATIBLE"
    )


FACTOR = Factor(
    name="cpu-isa",
    because="the CPU's instruction set differs",
    why="kernels depend on the CPU's instruction set, so another machine rounds differently",
    remedy="set the same ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA and MKL_CBWR wherever results must be equal bit for bit",
    pin=_pin,
    vary=_vary,
    numerical=True,
    order=19,
    changes="other CPU instructions change",
)
