"""Lists a directory, in three ways."""

import glob
import os
from pathlib import Path

import torch

os.makedirs("listed", exist_ok=True)
for name in "cafbed":
    Path("listed", name).touch()
first = os.listdir("listed")  # <- enters
names = [*first, *(path.name for path in Path("listed").iterdir()), *map(os.path.basename, glob.glob("listed/*"))]  # <- enters
print(torch.tensor([ord(name) * k for k, name in enumerate(names)]).sum())
