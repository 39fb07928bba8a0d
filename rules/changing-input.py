"""A file that something else writes for each run, and one that stays the same."""

# runs: 2

import os
from pathlib import Path

import torch

os.system("date +%s%N > now.txt; echo 2 > two.txt")  # as another program would
now = int(Path("now.txt").read_text())  # finds: changing-input
two = int(Path("two.txt").read_text())  # ok: changing-input
torch.tensor(now % 1000) * two
