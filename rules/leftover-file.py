"""A total that continues where the last run ended, and a note that is only written."""

import os
from pathlib import Path

import torch

os.system("echo 1.5 > total.txt")  # as if an earlier run had left it

torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
Path("notes.txt").write_text("begun")  # ok: leftover-file
total = 0.0
if Path("total.txt").exists():
    total = float(Path("total.txt").read_text())  # finds: leftover-file
Path("total.txt").write_text(str(total + model(torch.ones(1, 4)).sum().item()))  # ok: leftover-file
again = Path("notes.txt").read_text()  # ok: leftover-file
