"""What a search for causes takes: each leak script audited once; writes bench/results/causes.md and causes.json.

    python bench/causes.py [name ...]

Not seconds but runs are what counts: a run costs what the user's script costs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

HERE = Path(__file__).parent
LEAKS = HERE.parent / "tests" / "leaks"
MARK = "# <- enters"


def measured(script: Path) -> dict[str, Any]:
    """Audit one leak script; what was found, and in how many runs."""
    name = script.stem.replace("_", "-")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(script, Path(folder, "train.py"))
        command = [sys.executable, "-m", "auditor", "--json", "audit.json", "-o", "runs", "train.py"]
        subprocess.run(command, cwd=folder, capture_output=True, env=os.environ | {"PYTHONHASHSEED": "random"}, check=False)
        audit = json.loads(Path(folder, "audit.json").read_text())
    causes = [cause for cause in audit["causes"] if cause["factor"] == name]
    marked = {number for number, line in enumerate(script.read_text().splitlines(), 1) if line.endswith(MARK)}
    others = [cause["factor"] for cause in audit["causes"] if cause["factor"] != name and cause["grade"] == "logical"]
    return {
        "factor": name, "grade": causes[0]["grade"] if causes else "", "found": bool(causes) and not others,
        "proved": bool(causes) and causes[0]["proved"], "line": bool(causes) and causes[0]["line"] in marked,
        "runs": len(audit["runs"]),
    }  # fmt: skip


def main(names: list[str]) -> None:
    """Measure, and write the table."""
    here = torch.cuda.is_available()
    scripts = [script for script in sorted(LEAKS.glob("*.py")) if here or "cuda" not in script.read_text()]
    rows = [measured(script) for script in scripts if not names or script.stem in names]
    lines = ["| factor | grade | found, and no other | proved | line right | runs |", "|---|---|---|---|---|---|"]
    for row in rows:
        said = ["yes" if row[key] else "**no**" for key in ("found", "proved", "line")]
        lines.append(f"| {row['factor']} | {row['grade']} | {' | '.join(said)} | {row['runs']} |")
    middle = median(row["runs"] for row in rows)
    table = "\n".join(lines)
    print(table)
    print(f"median: {middle:g} runs")
    if names:
        return
    (HERE / "results" / "causes.json").write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "results" / "causes.md").write_text(
        "# How many runs a cause takes\n\n"
        "Each script of `tests/leaks/` leaks one source of variation. `repro-audit` is to find it and no other, prove it, and name the\n"
        "line where it enters. Runs are all that were made: the two controls, closer looks, and reruns with something held still or\n"
        "varied.\n\n"
        f"{table}\n\nMedian: {middle:g} runs. Made by `python bench/causes.py`.\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
