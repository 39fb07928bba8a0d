"""`kernels`: ops that have a deterministic form besides the default one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.factors import Factor

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    return plan.with_environment(CUBLAS_WORKSPACE_CONFIG=":4096:8")


def _inside(_process: Any, how: str) -> None:
    """Leaves out the filling of memory that belongs to it: otherwise agreement would not prove that a kernel is the cause."""
    from auditor.record.imports import when_imported

    def install(torch: Any) -> None:
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch._C._set_deterministic_algorithms(True, warn_only=True)  # the public name imports torch's compiler, over a second
        torch.backends.cudnn.deterministic = True

    if how == "pin":
        when_imported("torch", install)


FACTOR = Factor(
    name="kernels",
    because="an op has a nondeterministic kernel",
    why="some ops sum in an order that varies (by atomic operations on a GPU) unless their deterministic form is enabled",
    remedy="torch.use_deterministic_algorithms(True)",
    pin=_pin,
    inside=_inside,
    numerical=True,
    entropy=True,
    order=16,
    kinds={"kernel-on-cuda": 0},
    intermittent=True,
)
