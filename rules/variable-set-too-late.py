"""Variables that are set before torch is imported, and after; Python itself read PYTHONHASHSEED when it started."""

import os

os.environ["MKL_NUM_THREADS"] = "1"  # ok: variable-set-too-late
os.environ["PYTHONHASHSEED"] = "0"  # finds: variable-set-too-late

import torch

os.environ["OMP_NUM_THREADS"] = "1"  # finds: variable-set-too-late
os.environ["MY_OWN"] = "1"  # ok: variable-set-too-late
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.ones(2, 4)).sum().backward()
optimizer.step()
