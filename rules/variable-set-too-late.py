"""Three variables: one before torch is imported, two after."""

# finds: variable-set-too-late

import os

os.environ["MKL_NUM_THREADS"] = "1"  # ok: variable-set-too-late

import torch

os.environ["PYTHONHASHSEED"] = "0"  # noticed at the end of the step: the finding has no line
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.ones(2, 4)).sum().backward()
optimizer.step()
