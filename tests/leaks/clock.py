"""Reads clocks, and waits until one has moved."""

import datetime
import time

import torch

began = time.time()  # <- enters
while time.time() < began + 0.01:  # <- enters
    pass
numbers = [began % 1000, time.perf_counter_ns() % 1000, datetime.datetime.now().timestamp() % 1000, time.localtime().tm_sec]  # <- enters
print(torch.tensor(numbers, dtype=torch.float64).sum())
