"""Draws the README's terminal picture from a real audit of an example: `make picture` writes docs/terminal.svg."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
EXAMPLE = "examples/numpy_shared_memory.py"
WIDTH = 100


def main() -> None:
    """Audit the example and save what the terminal shows."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        done = subprocess.run(
            [sys.executable, "-m", "auditor", "-o", f"{folder}/runs", EXAMPLE],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        shown = done.stdout.decode().replace(folder, "~/.cache/repro-audit")
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # only the recording counts
    console.print(Text(f"$ repro-audit {EXAMPLE}", style="bold"))
    console.print(Text.from_ansi(shown))
    console.save_svg(str(ROOT / "docs" / "terminal.svg"), title="repro-audit")


if __name__ == "__main__":
    main()
