"""Holds the comparison of devices against real programs; writes bench/results/devices.md and devices.json.

    python bench/devices.py                    everything, about half an hour on two cores
    python bench/devices.py --part faults      only this part (silent, faults, cost), or --program conv: the rest of the tables stays
    python bench/devices.py --quick            one device and two faults of the MLP, writes nothing

Each program of `programs.py` takes a few steps as it is, and on CPUs that can do less: no op may be said to exceed its error bound.
Then one kernel of one of the runs is made wrong, at one step, by a hundred times what a correct one may be off: that op and no other is to
be named. At last what it costs: each kind of run in turn, in CPU time, as the machine may be busy with other things.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from auditor.compare import compare_devices, divergence_of
from auditor.devices import Device, parse
from auditor.judge import load_tolerances
from auditor.launch import launch
from auditor.pipeline.devices import measured_on
from auditor.pipeline.reruns import Silent
from auditor.plan import Plan
from auditor.tolerance import Tolerance
from auditor.trace.reader import Trace

HERE = Path(__file__).resolve().parent
DEVICES = "cpu,cpu:default,cpu:avx2,cpu:threads=1,cpu:mkldnn=off,cpu:mkl=compatible"
#: Program, dtype, steps.
PROGRAMS = (
    ("mlp", "float32", 4), ("cells", "float32", 2), ("lstm", "float32", 3), ("conv", "float32", 3), ("transformer", "float32", 2),
    ("mlp", "bfloat16", 4), ("transformer", "bfloat16", 2),
)  # fmt: skip
#: How wrong a kernel is made, in dues of a correct one.
TIMES = 100
#: The step in which it is.
STEP = 1
#: By what part of the largest element it is off in the run in which its due is measured.
PILOT = 2.0**-3
#: Threads that wait for each other take CPU time too, the more of it the busier the machine is: costs are measured with one.
SINGLE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
#: Runs of each kind, one kind after the other, and steps of each (the first is not counted).
ROUNDS = 3
TIMED = {"mlp": 60, "cells": 3, "lstm": 8, "conv": 5, "transformer": 3}

#: The script that is audited. Under autocast an MLP computes in bfloat16 where that is usual, the transformer is bfloat16 all through.
SCRIPT = """
import sys
import time

import torch

import faults
import programs

name, dtype, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.manual_seed(0)
if dtype == "bfloat16" and name == "transformer":
    torch.set_default_dtype(torch.bfloat16)
step, _ = programs.PROGRAMS[name]()
begun = 0.0
for k in range(steps):
    begun = begun or (time.process_time() if k == 1 else 0.0)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16" and name != "transformer"):
        faults.now(k)
        step()
    faults.now(-1)
print("seconds a step:", (time.process_time() - begun) / max(1, steps - 1))
"""

#: Kernels that are wrong at one element, once, in one step; what was done is written down.
FAULTS = """
import json
import os

import torch

KEPT = []
step = -1


def now(k):
    global step
    step = k


def plant(op, at_step, at_call, slot, relative, amount, done):
    kernel = torch.library.get_kernel(op, "CPU")
    library = torch.library.Library("aten", "IMPL")
    calls = 0

    def implementation(keyset, *args, **kwargs):
        nonlocal calls
        out = kernel.call_boxed(keyset, *args, **kwargs)
        if step == at_step:
            made = args[0] if op.split(".")[0].endswith("_") else out
            made = made[slot] if isinstance(made, (tuple, list)) else made
            if made is not None and made.dtype in (torch.float32, torch.bfloat16) and made.numel():
                calls += 1
                if calls == at_call:
                    made = made.detach()
                    at = torch.unravel_index(made.abs().argmax(), made.shape)
                    before = made[at].double()
                    made[at] = (before + relative * before.abs() + amount).to(made.dtype)
                    done[op] = [float(made[at].double() - before), float(before)]
                    with open("planted.json", "w") as file:
                        json.dump(done, file)
        return out

    library.impl(op.removeprefix("aten::"), implementation, "CPU", with_keyset=True)
    KEPT.append((kernel, library))


done = {}
for fault in json.loads(os.environ.get("WRONG") or "[]"):
    plant(**fault, done=done)
"""


@dataclass(frozen=True)
class Fault:
    """A kernel that is made wrong in one program."""

    program: str
    dtype: str
    op: str
    """As the dispatcher has it, `aten::sum.dim_IntList`."""
    slot: int = 0
    """Which of its results."""

    @property
    def recorded(self) -> str:
        """As a trace has it."""
        name = self.op.replace("::", ".")
        return name if name.count(".") > 1 else f"{name}.default"


FAULTED = (
    Fault("mlp", "float32", "aten::mm"),
    Fault("mlp", "float32", "aten::addmm"),
    Fault("mlp", "float32", "aten::sum.dim_IntList"),
    Fault("mlp", "float32", "aten::threshold_backward"),
    Fault("mlp", "float32", "aten::_log_softmax"),
    Fault("mlp", "float32", "aten::addcdiv_"),
    Fault("mlp", "bfloat16", "aten::addmm"),
    Fault("cells", "float32", "aten::tanh"),
    Fault("cells", "float32", "aten::sigmoid_"),
    Fault("cells", "float32", "aten::tanh_backward"),
    Fault("lstm", "float32", "aten::mkldnn_rnn_layer"),
    Fault("lstm", "float32", "aten::lerp_.Scalar"),
    Fault("conv", "float32", "aten::convolution"),
    Fault("conv", "float32", "aten::convolution_backward", 1),
    Fault("conv", "float32", "aten::native_batch_norm"),
    Fault("conv", "float32", "aten::native_batch_norm_backward", 1),
    Fault("conv", "float32", "aten::max_pool2d_with_indices_backward"),
    Fault("transformer", "float32", "aten::native_layer_norm"),
    Fault("transformer", "float32", "aten::gelu"),
    Fault("transformer", "float32", "aten::gelu_backward"),
    Fault("transformer", "float32", "aten::embedding_dense_backward"),
    Fault("transformer", "float32", "aten::_scaled_dot_product_flash_attention_for_cpu"),
    Fault("transformer", "bfloat16", "aten::native_layer_norm"),
    Fault("transformer", "bfloat16", "aten::mm"),
)


class Bench:
    """Runs in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Put the script there."""
        self.folder = folder
        self.tolerances: list[Tolerance] = load_tolerances(HERE.parent / "rules")
        (folder / "train.py").write_text(SCRIPT)
        (folder / "faults.py").write_text(FAULTS)
        shutil.copy(HERE / "programs.py", folder)

    def plan(self, program: tuple[str, str, int]) -> Plan:
        """A run of a program as a user would make it."""
        return Plan(("train.py", *map(str, program)), cwd=str(self.folder))

    def run(self, program: tuple[str, str, int], device: Device, name: str, wrong: Sequence[dict[str, Any]] = ()) -> Trace:
        """A run that can be compared with one on another device; `wrong`: the kernels that are."""
        plan = measured_on(self.plan(program), device, False, self.tolerances)
        return self.launched(plan.with_environment(WRONG=json.dumps(wrong)) if wrong else plan, name)

    def launched(self, plan: Plan, name: str) -> Trace:
        """Make one run, in the place of the last of this name; ends the bench if the script failed."""
        folder = self.folder / "runs" / name
        if folder.exists():
            shutil.rmtree(folder)
        launch(plan, folder, name, "device", Silent(), quiet=True)
        trace = Trace(folder)
        if trace.meta["exit"] != 0:
            sys.exit(f"bench: {name} ended with status {trace.meta['exit']}: {(folder / 'stderr').read_text()[-2000:]}")
        return trace


def excesses(run: Trace) -> list[float]:
    """What the shadow of a run measured, over its bound; -1: no bound is known."""
    return [float(value) for lane in run.lanes.values() for value in lane.shadows()["excess"]]


def silent(bench: Bench, programs: Sequence[tuple[str, str, int]], devices: Sequence[Device]) -> Iterator[dict[str, Any]]:
    """Each program on each device, compared with the first; nothing is to be said."""
    for program in programs:
        first = bench.run(program, devices[0], "first")
        for device in devices[1:]:
            other = bench.run(program, device, "other")
            found = compare_devices(first, other, bench.tolerances)
            known = [value for value in excesses(other) if value > 0]
            yield {
                "program": program[0], "dtype": program[1], "device": device.name, "aligned": found.aligned,
                "otherwise": found.unaligned, "unmeasured": sum(found.unmeasured.values()), "of": found.unmeasured, "end": found.end,
                **_worst(first, other), "first": found.first and f"{found.first.op} at {found.first.file}:{found.first.line}",
                "other": found.other and [one.slug for one in found.other.reasons], "above": sum(value > 1 for value in known),
                "tenths": [sum(k / 10 < value <= (k + 1) / 10 for value in known) for k in range(10)],
            }  # fmt: skip


def _worst(*runs: Trace) -> dict[str, Any]:
    """The op that came nearest to its due."""
    worst: tuple[float, str] = (0.0, "")
    for run in runs:
        for lane in run.lanes.values():
            shadows = lane.shadows()
            if len(shadows["row"]):
                at = int(shadows["excess"].argmax())
                row = int(shadows["row"][at])
                worst = max(worst, (float(shadows["excess"][at]), str(lane.rows(row, row)[0].op)))
    return {"worst": worst[0], "worst-op": worst[1]}


def _calls(run: Trace, fault: Fault) -> list[tuple[int, int]]:
    """Row and index of each call of an op in the step in which it is made wrong, lists with their first tensor's dtype."""
    assert run.main is not None  # the script computes in its main thread
    wanted = 'SELECT "row", index, out FROM records WHERE op = ? AND step = ? AND kind = \'op\' ORDER BY "row"'
    found = run.main.query(wanted, fault.recorded, STEP)
    return [(row["row"], row["index"]) for row in found if json.loads(row["out"])[0][0] in ("float32", "bfloat16")]


def planted(bench: Bench, faults: Sequence[Fault], devices: tuple[Device, Device]) -> Iterator[dict[str, Any]]:
    """Each fault in the run on the second device; it and nothing else is to be named.

    A first run, in which all kernels of a program are wrong by much, tells the due: the error that was made over its measured excess.
    """
    programs = {(one.program, one.dtype): (one.program, one.dtype, STEP + 1) for one in faults}
    for key, program in programs.items():
        first = bench.run(program, devices[0], "first")
        mine = [one for one in faults if (one.program, one.dtype) == key]
        at = {one: len(_calls(first, one)) // 2 + 1 for one in mine}
        absent = [one.recorded for one in mine if not _calls(first, one)]
        if absent:
            sys.exit(f"bench: {key} does no {absent} in step {STEP}")
        wrong = {
            one: {"op": one.op, "at_step": STEP, "at_call": at[one], "slot": one.slot, "relative": PILOT, "amount": 0.0} for one in mine
        }
        pilot = bench.run(program, devices[1], "pilot", list(wrong.values()))
        done = json.loads((bench.folder / "planted.json").read_text())
        for one in mine:
            row, _ = _calls(pilot, one)[at[one] - 1]
            off, _ = done[one.op]
            due = off / _excess(pilot, row)
            faulty = bench.run(program, devices[1], "faulty", [wrong[one] | {"relative": 0.0, "amount": TIMES * due}])
            found = compare_devices(first, faulty, bench.tolerances)
            divergence = divergence_of(found)
            row, index = _calls(faulty, one)[at[one] - 1]
            change, before = json.loads((bench.folder / "planted.json").read_text())[one.op]
            named = found.first is not None and (found.first.op, found.first.index, found.first.run) == (one.recorded, index, "faulty")
            said = None if divergence is None else (divergence.kind, divergence.op, divergence.index)
            yield {
                "program": one.program, "dtype": one.dtype, "op": one.recorded, "calls": 2 * at[one] - 2, "off": change, "of": before,
                "named": named and said == ("arithmetic", one.recorded, index), "excess": _excess(faulty, row),
                "said": None if divergence is None else f"{divergence.kind}: {divergence.op} at op {divergence.index}",
                "beside": sum(value > 1 for value in excesses(faulty)) - 1,
            }  # fmt: skip


def _excess(run: Trace, row: int) -> float:
    """What a shadow measured of the result of an op that came nearest to its due."""
    assert run.main is not None  # as above
    shadows = run.main.shadows()
    found = max(shadows["excess"][shadows["row"] == row].tolist(), default=0.0)
    if found <= 0:
        sys.exit(f"bench: no shadow measured op {row}")
    return float(found)


def cost(bench: Bench, names: Sequence[str], rounds: int) -> Iterator[dict[str, Any]]:
    """CPU time of a step of each kind of run, over that of a bare one."""
    for name in names:
        steps = TIMED[name]
        plain = bench.plan((name, "float32", steps)).with_environment(**SINGLE)
        measured = measured_on(plain, parse("cpu")[0], False, bench.tolerances)
        kinds = {"recorded": plain, "sketched": plain.with_sketches(), "shadowed": measured}
        times: dict[str, list[float]] = {"bare": [], **{kind: [] for kind in kinds}}
        for _ in range(rounds):
            bare = subprocess.run(
                plain.command, cwd=bench.folder, env=os.environ | SINGLE, capture_output=True, text=True, check=True
            ).stdout
            times["bare"].append(_seconds(bare))
            for kind, plan in kinds.items():
                bench.launched(plan, kind)
                times[kind].append(_seconds((bench.folder / "runs" / kind / "stdout").read_text()))
        middle = {kind: median(found) for kind, found in times.items()}
        yield {
            "program": name,
            "runs": rounds,
            "milliseconds": middle["bare"] * 1e3,
            **{kind: middle[kind] / middle["bare"] for kind in kinds},
        }


def _seconds(printed: str) -> float:
    return float(printed.rpartition("seconds a step:")[2])


def tables(found: dict[str, list[dict[str, Any]]]) -> str:
    """All of it, for a reader."""
    lines = [
        "# Devices: what is said of correct programs, and of wrong kernels", "",
        "Programs of `bench/programs.py` on a CPU as it is, against the same CPU doing less. The *drift* is how far parameters are apart",
        "at the end; the *worst* is the op of either run that came nearest to its error bound (1 is all of it, and a number under",
        "1 only a bound, see docs/tolerances.md).", "",
        "| program | dtype | against | ops compared | done otherwise | not measured | drift at the end | worst | of | alarms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in found["silent"]:
        alarms = " ".join(f"**{one[key]}**" for key in ("first", "other") if one[key]) or "none"
        end = "" if one["end"] is None else f"{one['end']:.1e}"
        lines.append(
            f"| {one['program']} | {one['dtype']} | {one['device']} | {one['aligned']} | {one['otherwise']} | {one['unmeasured']} "
            f"| {end} | {one['worst']:.2f} | {one['worst-op'].removeprefix('aten.')} | {alarms} |"
        )
    whole = [sum(one["tenths"][k] for one in found["silent"]) for k in range(10)]
    lines += [
        "", "How near results come to their due, in tenths of it, over all of these runs (results that are exact left out):", "",
        f"| {' | '.join(f'to {(k + 1) / 10:g}' for k in range(10))} | beyond |", f"|{'---|' * 11}",
        f"| {' | '.join(map(str, whole))} | {sum(one['above'] for one in found['silent'])} |", "",
        f"One kernel of the run on `cpu:avx2` is wrong at one element, once, in the second step, by {TIMES} times its due. *Named*:",
        "that call of that op in that run is the first that is said to exceed its error bound. *Beside it*: results of others",
        "that are.", "",
        "| program | dtype | op | off by, of the element | found, in dues | named | beside it |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in found["faults"]:
        part = abs(one["off"] / one["of"]) if one["of"] else float("inf")
        lines.append(
            f"| {one['program']} | {one['dtype']} | {one['op'].removeprefix('aten.')} | {part:.1e} | {one['excess']:.0f} "
            f"| {'yes' if one['named'] else '**no**: ' + str(one['said'])} | {one['beside'] or 'none'} |"
        )
    lines += [
        "", "CPU time of a training step over that of the bare one, on one thread: median of so many runs of each kind, interleaved.", "",
        "| program | runs | bare step | recorded | with sketches | with sketches and a float64 shadow | the same over a recorded one |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in found["cost"]:
        ratios = " | ".join(f"{one[kind]:.2f}" for kind in ("recorded", "sketched"))
        shadowed = f"{one['shadowed']:.1f} | {one['shadowed'] / one['recorded']:.1f}"
        lines.append(f"| {one['program']} | {one['runs']} | {one['milliseconds']:.1f} ms | {ratios} | {shadowed} |")
    return "\n".join([*lines, "", "Made by `python bench/devices.py`.", ""])


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("silent", "faults", "cost"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--program")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    devices = parse("cpu,cpu:avx2" if options.quick else DEVICES)
    programs = [one for one in PROGRAMS if options.program in (None, one[0])][: 1 if options.quick else None]
    faults = [one for one in FAULTED if options.program in (None, one.program)][: 2 if options.quick else None]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        parts = {
            "silent": lambda: silent(bench, programs, devices),
            "faults": lambda: planted(bench, faults, (devices[0], next(one for one in devices if one.name == "cpu:avx2"))),
            "cost": lambda: cost(bench, [name for name in TIMED if options.program in (None, name)], ROUNDS),
        }
        for part in parts if options.part is None else (options.part,):
            if options.quick and part == "cost":
                continue
            found[part] = []
            for one in parts[part]():
                found[part].append(one)
                print(part, json.dumps(one), flush=True)
    if options.quick:
        return
    results = HERE / "results" / "devices.json"
    known: dict[str, list[dict[str, Any]]] = {"silent": [], "faults": [], "cost": []}
    if results.exists():
        known |= json.loads(results.read_text())
    order = [(name, dtype) for name, dtype, _ in PROGRAMS]
    for part, rows in found.items():
        rows += [one for one in known[part] if options.program not in (None, one["program"])]
        known[part] = sorted(rows, key=lambda one: order.index((one["program"], one.get("dtype", "float32"))))
    results.write_text(json.dumps(known, indent=1) + "\n")
    results.with_suffix(".md").write_text(tables(known))


if __name__ == "__main__":
    main()
