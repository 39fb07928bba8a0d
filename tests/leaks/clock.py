"""Reads clocks, and waits until one has moved."""

import datetime
import time

import torch

began = time.time()
while time.time() < began + 0.01:
    pass
numbers = [began % 1000, time.perf_counter_ns() % 1000, datetime.datetime.now().timestamp() % 1000, time.localtime().tm_sec]
print(torch.tensor(numbers, dtype=torch.float64).sum())
