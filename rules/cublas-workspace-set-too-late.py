"""The variable that cuBLAS reads at its first product, set after the first step."""

import os

import torch

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
os.environ["MKL_NUM_THREADS"] = "1"  # ok: cublas-workspace-set-too-late
for step in range(3):
    if step == 1:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # finds: cublas-workspace-set-too-late
    optimizer.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
