"""Runs the given training scripts one after another in this process; each saves its weights under its own name."""

import runpy
import sys
from pathlib import Path

for path in sys.argv[1:]:
    name = Path(path).stem
    print("program", name)
    sys.argv = [path, "--save", f"{name}.pt"]
    runpy.run_path(path, run_name="__main__")
