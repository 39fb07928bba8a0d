"""`uninitialized-memory`: the content of memory that nothing has written yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.factors import Factor, Signs

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    return plan.with_environment(MALLOC_PERTURB_="255")  # glibc fills with the complement: zeros


def _vary(plan: Plan) -> Plan:
    return plan.with_environment(MALLOC_PERTURB_="165")  # 0x5a: about 1.5e16 as float32


def _unavailable() -> str | None:
    import platform

    return None if platform.libc_ver()[0] == "glibc" else "only glibc can fill memory with a chosen value"


FACTOR = Factor(
    name="uninitialized-memory",
    because="uninitialized memory is read",
    why="torch.empty and np.empty return memory with its old content",
    remedy="torch.zeros instead of torch.empty, or fill the memory before it is read",
    pin=_pin,
    vary=_vary,
    unavailable=_unavailable,
    order=10,
    kinds={"uninitialized": 0, "hidden-write": 2, "kernel": 0, "kernel-on-cuda": 3},
    calls=("numpy.empty", "numpy.empty_like", "torch.empty", "torch.empty_like"),
    intermittent=True,
    signs=Signs(unwritten=True),
    refutes="uninitialized-read",
    fixes=("zeros",),
)
