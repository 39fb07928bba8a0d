"""What recording named values costs: the loop of a script with twenty names, bare and recorded, interleaved.

    python bench/names.py              writes bench/results/names.md and names.json
    python bench/names.py --steps 500  a short one, to see that it works; writes nothing

Each script times its own loop, so that starting Python and importing are told apart from the loop.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from auditor.launch import launch
from auditor.plan import Plan
from auditor.trace.names import named_values
from auditor.trace.reader import Trace

BENCH = Path(__file__).resolve().parent
STEPS = 10_000
ROUNDS = 5

_NUMPY = """
import time
import numpy as np
rng = np.random.default_rng(0)
w1, b1 = rng.standard_normal((10, 10)), np.zeros(10)
w2, b2 = rng.standard_normal((10, 4)), np.zeros(4)
data, labels = rng.standard_normal((64, 10)), rng.standard_normal((64, 4))
lr = 0.01
begun = time.perf_counter()
for step in range({steps}):
    x = data[step % 56 : step % 56 + 8]
    y = labels[step % 56 : step % 56 + 8]
    z1 = x @ w1 + b1
    h = 1.0 / (1.0 + np.exp(-z1))
    z2 = h @ w2 + b2
    p = 1.0 / (1.0 + np.exp(-z2))
    error = p - y
    loss = float((error ** 2).mean())
    d2 = error * p * (1.0 - p)
    dw2 = h.T @ d2
    db2 = d2.sum(0)
    d1 = (d2 @ w2.T) * h * (1.0 - h)
    dw1 = x.T @ d1
    db1 = d1.sum(0)
    w1 -= lr * dw1
    b1 -= lr * db1
    w2 -= lr * dw2
    b2 -= lr * db2
    norm = np.sqrt((dw1 * dw1).sum())
    lr = lr * 0.9999
print(time.perf_counter() - begun)
"""

_TORCH = """
import time
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
w1 = torch.randn(10, 10, requires_grad=True)
b1 = torch.zeros(10, requires_grad=True)
w2 = torch.randn(10, 4, requires_grad=True)
b2 = torch.zeros(4, requires_grad=True)
data, labels = torch.randn(64, 10), torch.randn(64, 4)
lr = 0.01
begun = time.perf_counter()
for step in range({steps}):
    x = data[step % 56 : step % 56 + 8]
    y = labels[step % 56 : step % 56 + 8]
    z1 = x @ w1 + b1
    h = torch.sigmoid(z1)
    z2 = h @ w2 + b2
    p = torch.sigmoid(z2)
    error = p - y
    loss = (error * error).mean()
    loss.backward()
    value = loss.item()
    with torch.no_grad():
        w1 -= lr * w1.grad
        b1 -= lr * b1.grad
        w2 -= lr * w2.grad
        b2 -= lr * b2.grad
    w1.grad.zero_(), b1.grad.zero_(), w2.grad.zero_(), b2.grad.zero_()
    lr = lr * 0.9999
print(time.perf_counter() - begun)
"""


class _Silent:
    """Shows nothing."""

    def output(self, stream: int, data: bytes) -> None:
        """Leave it out."""

    def progress(self, progress: object) -> None:
        """Leave it out."""


def main() -> None:
    """Measure both loops and keep the table."""
    parser = argparse.ArgumentParser(description="Measure what recording named values costs.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    found = [measured(name, source.format(steps=given.steps), given.rounds) for name, source in (("NumPy", _NUMPY), ("torch", _TORCH))]
    head = (
        f"A loop of {given.steps:,} steps, bare and with named values recorded, {given.rounds} rounds, interleaved; medians. "
        f"torch {version('torch')}, NumPy {version('numpy')}, Python {platform.python_version()}, {platform.system()}."
    )
    lines = ["# What named values cost", "", head, "", "| loop | names | values | bare, s | recorded, s | ratio | kept, MB |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    lines += [
        f"| {one['loop']} | {one['names']} | {one['values']:,} | {one['bare']:.2f} | {one['recorded']:.2f} | {one['ratio']:.2f} | "
        f"{one['megabytes']:.0f} |"
        for one in found
    ]
    table = "\n".join(lines) + "\n"
    print(table)
    if given.steps == STEPS:
        (BENCH / "results" / "names.md").write_text(table)
        (BENCH / "results" / "names.json").write_text(json.dumps(found, indent=1) + "\n")


def measured(name: str, source: str, rounds: int) -> dict[str, Any]:
    """Medians of one loop's seconds, and what was recorded of it."""
    bare, recorded = [], []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "train.py")
        script.write_text(source)
        for k in range(rounds):
            done = subprocess.run([sys.executable, script.name], cwd=folder, check=True, capture_output=True, text=True)
            bare.append(float(done.stdout))
            run = Path(folder, f"run-{k}")
            began = time.perf_counter()
            launch(Plan((script.name,), cwd=folder).with_names(), run, f"run-{k}", "control", _Silent(), quiet=True)
            whole = time.perf_counter() - began
            recorded.append(float((run / "stdout").read_text()))
            print(f"{name}: bare {bare[-1]:.2f} s, recorded {recorded[-1]:.2f} s, with start and sealing {whole:.2f} s", flush=True)
        series = named_values(Trace(run))
        kept = sum(path.stat().st_size for path in (run / "lanes").iterdir() if path.suffix in (".val", ".nam"))
    return {
        "loop": name, "names": len(series), "values": sum(len(one.order) for one in series), "bare": statistics.median(bare),
        "recorded": statistics.median(recorded), "ratio": statistics.median(recorded) / statistics.median(bare), "megabytes": kept / 1e6,
    }  # fmt: skip


if __name__ == "__main__":
    main()
