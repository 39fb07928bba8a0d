"""What the user asks for, before anything runs: the script, factors and devices that there are, and the plans that they make."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from auditor import plugins
from auditor.devices import Device
from auditor.errors import UsageError
from auditor.factors import plan_with
from auditor.pipeline.devices import check_reference, chosen_devices, measured_on
from auditor.pipeline.rules import all_tolerances
from auditor.plan import AuditOptions, Plan


def check_script(plan: Plan) -> None:
    """Raise `UsageError` (`no-such-script`) if the script is not there; near names are suggested."""
    first = plan.script[0] if plan.script else ""
    if not first:
        raise UsageError("no-script", "no script was given: repro-audit train.py ...")
    if first.startswith("-"):
        if first == "-m" and len(plan.script) > 1:
            return
        raise UsageError("no-script", f"{first} is no option of repro-audit and no script: options come before the script")
    path = Path(plan.cwd) / first
    if path.is_file() or (path / "__main__.py").is_file():
        return
    near = get_close_matches(Path(first).name, [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else [], 1)
    hint = f"; did you mean {Path(first).parent / near[0]}?" if near else ""
    raise UsageError("no-such-script", f"there is no script {first} in {plan.cwd}{hint}")


def check_options(plan: Plan, options: AuditOptions) -> tuple[Device, ...]:
    """The devices that an audit is asked for; raises `UsageError` where it cannot be made as the user wants it."""
    check_script(plan)
    check_factors(options.pin, options.vary)
    if options.vary and not options.varies:
        raise UsageError(
            "nothing-varied", f"{options.vary[0]} is to be varied, and --effort {options.effort} varies nothing: leave one of them out"
        )
    chosen = chosen_devices(options.devices)
    check_reference(options.shadow)
    return chosen


def check_factors(pinned: Sequence[str], varied: Sequence[str]) -> None:
    """Raise `UsageError`: `no-such-factor`, `factor-unavailable`, `factor-twice`."""
    factors = plugins.factors()
    for name in (*pinned, *varied):
        factor = factors.get(name)
        if factor is None:
            near = get_close_matches(name, factors, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError("no-such-factor", f"no factor is named {name}{hint}")
        missing = factor.unavailable()
        if missing is not None:
            raise UsageError("factor-unavailable", f"{name} can be neither pinned nor varied: {missing}")
    both = set(pinned) & set(varied)
    if both:
        raise UsageError("factor-twice", f"{min(both)} cannot be both pinned and varied")


def with_factors(plan: Plan, pinned: Sequence[str], varied: Sequence[str]) -> Plan:
    """The plan with these factors pinned and varied. Raises what `check_factors` does."""
    check_factors(pinned, varied)
    return plan_with(plan, plugins.factors(), pinned, varied)


def with_device(plan: Plan, name: str) -> Plan:
    """The plan of a run on a device, to be compared with one on another. Raises what `chosen_devices` does."""
    device, *more = chosen_devices(name)
    if more:
        raise UsageError("no-such-device", f"--device {name}: one is wanted")
    return measured_on(plan, device, not device.is_cpu, all_tolerances())
