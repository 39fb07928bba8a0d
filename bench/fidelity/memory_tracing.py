"""profilers: tracemalloc names the script's lines with the blocks that they hold."""

import tracemalloc

import torch

tracemalloc.start(5)
kept = [bytearray(1000) for _ in range(100)]
tensors = [torch.ones(10) for _ in range(50)]
model = torch.nn.Linear(4, 4)
model(torch.ones(1, 4)).sum().backward()
snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, __file__)])
for statistic in sorted(snapshot.statistics("lineno"), key=lambda one: one.traceback[0].lineno)[:1]:
    print(statistic.traceback[0].lineno, statistic.count // 100, statistic.size // 1000)
tracemalloc.stop()
print(tracemalloc.is_tracing(), len(kept), len(tensors))
