"""`device`: the device that a script computes on if it looks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.factors import Factor, needs_cuda

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    """The first device: which of several is taken can depend on what else is running there."""
    visible = plan.variable("CUDA_VISIBLE_DEVICES")
    return plan.with_environment(CUDA_VISIBLE_DEVICES=visible.split(",")[0] if visible else "0")


def _vary(plan: Plan) -> Plan:
    """No device, so that the script uses the CPU."""
    return plan.with_environment(CUDA_VISIBLE_DEVICES="")


FACTOR = Factor(
    name="device",
    because="the device differs",
    why="a script that uses the device it finds computes on a different one elsewhere, and devices round differently",
    remedy="name the device in the script, and compare results between devices with a tolerance",
    pin=_pin,
    vary=_vary,
    unavailable=needs_cuda,
    numerical=True,
    order=21,
    changes="another device changes",
)
