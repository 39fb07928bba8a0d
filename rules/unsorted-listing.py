"""Files that become training data in the order of the file system, and in sorted order."""

import os
import tempfile
from pathlib import Path

import torch

folder = Path(tempfile.mkdtemp(dir="."))
for name in ("b", "a", "c"):
    (folder / name).write_text(name)
names = os.listdir(folder)  # finds: unsorted-listing
ordered = sorted(os.listdir(folder))  # ok: unsorted-listing
count = len(list(folder.iterdir()))  # ok: unsorted-listing
torch.tensor([ord(n) for n in names + ordered]) * count
