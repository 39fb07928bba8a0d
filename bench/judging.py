"""What judging costs: every rule over one run of about a million events.

    python bench/judging.py              records the run, writes bench/results/judging.md
    python bench/judging.py --steps 200  a short one, to see that it works; writes nothing

The run is the benchmark's MLP, 99 recorded ops a step: the rules find nothing in it and have to look at all of it.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

BENCH = Path(__file__).resolve().parent
STEPS = 9_500
_SCRIPT = """import sys
sys.path.insert(0, {bench!r})
import torch
import programs
torch.manual_seed(0)
torch.set_num_threads(1)
step, _ = programs.PROGRAMS["mlp"]()
for _ in range({steps}):
    step()
"""


def main() -> None:
    """Record, seal, judge; print the table and keep it."""
    parser = argparse.ArgumentParser(description="Measure what judging a run by all rules costs.")
    parser.add_argument("--steps", type=int, default=STEPS)
    steps: int = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "train.py")
        script.write_text(_SCRIPT.format(bench=str(BENCH), steps=steps))
        print(f"recording {steps:,} steps", flush=True)
        subprocess.run([sys.executable, "-m", "auditor", "record", "-o", "run", script.name], cwd=folder, check=True)
        table = measured(Path(folder, "run"))
    print(table)
    if steps == STEPS:
        (BENCH / "results" / "judging.md").write_text(table)


def measured(run: Path) -> str:
    """The table as Markdown: one line a rule, the slowest first."""
    from auditor import pipeline, plugins
    from auditor.judge import judge
    from auditor.trace.reader import Trace
    from auditor.trace.tables import Tables

    rules = [file.rule for file in pipeline.all_rules().values()]
    detectors = plugins.detectors()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    seconds = {}
    with Tables(Trace(run)) as tables:
        opened = time.perf_counter() - began
        (counted,) = tables.query("SELECT (SELECT count(*) FROM records) + (SELECT count(*) FROM events) AS events")
        found = 0
        for rule in rules:
            start = time.perf_counter()
            found += len(judge([tables], [rule], detectors))
            seconds[rule.id] = time.perf_counter() - start
    whole = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    head = (
        f"{len(rules)} rules over {counted['events']:,} events in {whole:.1f} s, {opened:.2f} s to open the tables; {found} findings. "
        f"Largest resident memory {after / 1024:.0f} MB, {(after - before) / 1024:.0f} MB more than before. "
        f"duckdb {version('duckdb')}, Python {platform.python_version()}, {platform.system()}."
    )
    lines = ["# What judging costs", "", head, "", "| rule | seconds |", "|---|---:|"]
    lines += [f"| {name} | {spent:.2f} |" for name, spent in sorted(seconds.items(), key=lambda item: -item[1])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
