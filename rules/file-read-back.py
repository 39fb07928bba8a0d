"""Features that are written to a text file and read back, and a file that existed before."""

from pathlib import Path

import numpy as np
import torch

labels = Path(__file__).with_name("README.md").read_text()[:4]  # ok: file-read-back
features = np.linspace(0, 1, 8)
np.savetxt("features.txt", features, fmt="%.3f")
again = np.loadtxt("features.txt")  # finds: file-read-back
torch.from_numpy(again).sum() + len(labels)
