"""Runs on other devices, compared with one on the first; and the run in which each op is recomputed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from auditor import devices
from auditor.compare import compare_devices, divergence_of, divergence_of_shadow, shadow_of
from auditor.devices import Device
from auditor.errors import UsageError
from auditor.factors import needs_cuda
from auditor.pipeline.reruns import Reruns
from auditor.plan import Plan
from auditor.results import DeviceComparison, Divergence, Reason, Shadowed
from auditor.tolerance import Tolerance, as_json
from auditor.trace.reader import Trace

#: What each op of a run on a device is recomputed in, to tell an error that it made from one that it was given.
_REFERENCE = "float64"


class Elsewhere(NamedTuple):
    """What runs on other devices showed; `divergence`: the first op that exceeds its error bound."""

    comparisons: list[DeviceComparison]
    divergence: Divergence | None
    notes: list[Reason]


def chosen_devices(names: str) -> tuple[Device, ...]:
    """The devices that the user asks for. Raises `UsageError`: `no-such-device`, `device-twice`, `device-unavailable`."""
    chosen = tuple(devices.parse(names)) if names else ()
    for device in chosen:
        missing = unavailable(device)
        if missing is not None:
            raise UsageError("device-unavailable", f"--devices {names}: {device.name} cannot be used: {missing}")
    return chosen


def check_reference(reference: str) -> None:
    """Raise `UsageError` (`no-such-reference`, `device-unavailable`) if ops cannot be recomputed so."""
    if reference in ("", _REFERENCE):
        return
    try:
        (device,) = devices.parse(reference)
    except (UsageError, ValueError):
        device = None
    if device is None or device.variables or not device.mkldnn:
        raise UsageError("no-such-reference", f"--shadow {reference}: float64 is wanted, or a device such as cpu or cuda")
    missing = unavailable(device)
    if missing is not None:
        raise UsageError("device-unavailable", f"--shadow {reference}: {missing}; --shadow float64 needs none")


def unavailable(device: Device) -> str | None:
    """Why nothing can be run on a device here; None if it can."""
    if device.is_cpu:
        return devices.missing_instructions(device)
    if device.kind == "cuda":
        missing = needs_cuda()
        if missing is not None:
            return missing
    import torch

    try:
        torch.empty(1, device=f"{device.kind}:{device.index or 0}")
    except Exception as error:  # noqa: BLE001  # each backend says in its own way that it is not there
        return devices.not_found(device, error)
    return None


def on_first(plan: Plan, chosen: Sequence[Device]) -> Plan:
    """The plan of the controls: on the first of the devices, if any are chosen."""
    return devices.plan_on(plan, chosen[0], _available(chosen)) if chosen else plan


def measured_on(plan: Plan, device: Device, available: bool, tolerances: Sequence[Tolerance]) -> Plan:
    """The plan of a run on a device that can be compared with one on another."""
    return devices.plan_on(plan, device, available).with_sketches().with_shadow(_REFERENCE, as_json(tolerances))


def can_be_measured(runs: Sequence[Trace]) -> bool:
    """Whether kept runs were recorded so that they can be compared although they are of different devices, and are."""
    plans = [run.meta.get("plan") or {} for run in runs]
    return all(plan.get("sketch") for plan in plans) and len({plan.get("device") for plan in plans}) > 1


def compare_elsewhere(plan: Plan, chosen: Sequence[Device], runs: Reruns, tolerances: Sequence[Tolerance]) -> Elsewhere:
    """One run on each device, and each of the others compared with the first."""
    made: list[Trace] = []
    notes: list[Reason] = []
    for device in chosen:
        here = measured_on(plan, device, _available(chosen), tolerances)
        made.append(runs.one(here, f"device-{re.sub(r'[^a-z0-9]+', '-', device.name.lower())}", "device"))
    comparisons, first = [], None
    for device, run in zip(chosen[1:], made[1:], strict=True):
        comparison = compare_devices(made[0], run, tolerances)
        comparison.devices = [chosen[0].name, device.name]
        comparisons.append(comparison)
        first = first or divergence_of(comparison)
        if run.meta.get("exit") != made[0].meta.get("exit"):
            notes.append(Reason.of("ended-elsewhere", device=device.name, error=run.meta.get("error"), status=run.meta.get("exit")))
    return Elsewhere(comparisons, first, notes)


def default_devices(controls: Sequence[Trace]) -> tuple[tuple[Device, ...], Reason | None]:
    """What is compared if the user does not say: the device that the script computes on with the CPU; or why nothing is."""
    missing = needs_cuda()
    if missing is not None:
        return (), Reason.of("no-gpu-run", why=missing)
    used = sorted({device for run in controls for device in devices_of(run)} - {"cpu"})
    if not used:
        return (), Reason.of("gpu-not-used")
    if len(used) > 1:
        return (), Reason.of("no-cpu-run", devices=[*used])
    return tuple(devices.parse(f"{used[0]},cpu")), None


def wants_a_gpu(run: Trace) -> Reason | None:
    """What to do about a script that failed because there is no GPU; None if that is not why."""
    error = str(run.meta.get("error") or "")
    if not run.meta.get("exit") or not re.search("cuda|nvidia", error, re.IGNORECASE) or needs_cuda() is None:
        return None
    return Reason.of("wants-gpu")


def devices_of(run: Trace) -> list[str]:
    """The devices on which a run made tensors, as torch writes them."""
    found = {
        str(row["device"])
        for lane in run.lanes.values()
        for row in lane.query(
            "SELECT DISTINCT unnest(regexp_extract_all(out, '\"((cpu|cuda|xpu|mps|hpu)(:[0-9]+)?)\"\\]', 1)) AS device "
            "FROM (SELECT DISTINCT out FROM records)"  # there are few, however many ops
        )
    }
    return sorted(found)


def recompute(plan: Plan, reference: str, runs: Reruns, tolerances: Sequence[Tolerance]) -> tuple[Shadowed, Divergence | None]:
    """One run in which each op is recomputed in `reference`; and the first op that exceeds its error bound."""
    here = plan.with_shadow(reference, as_json(tolerances))
    known = [run for run in runs.made if _is_such(run, here)]
    run = known[0] if known else runs.one(here, f"shadow-{reference.replace(':', '-')}", "device")
    found = shadow_of(run, reference)
    return found, divergence_of_shadow(found)


def _is_such(run: Trace, plan: Plan) -> bool:
    """Whether a run is one of this plan, or one that was sketched as well."""
    made = run.meta.get("plan") or {}
    return run.meta.get("role") == "device" and (made.get("shadow"), made.get("device")) == (plan.recording.shadow, plan.device.name)


def _available(chosen: Sequence[Device]) -> bool:
    return any(not device.is_cpu for device in chosen)
