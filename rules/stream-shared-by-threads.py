"""Threads that alternate on one generator, those that have one each, and one thread after the other."""

# runs: 2

import threading
from pathlib import Path

import numpy as np
import torch

torch.manual_seed(0)
np.random.seed(0)
#: What timing decides elsewhere, so that the two runs are sure to differ: which of the threads is first.
late = Path("first-run").exists()
Path("first-run").touch()
torch_turn, numpy_turn = threading.Event(), threading.Event()


def shared(k):
    if (k == 0) == late:
        torch_turn.wait()
    torch.randn(2)  # finds: stream-shared-by-threads
    torch_turn.set()
    if (k == 0) == late:
        numpy_turn.wait()
    np.random.rand()  # finds: stream-shared-by-threads
    numpy_turn.set()


def own(k):
    generator = torch.Generator().manual_seed(k)
    torch.randn(2, generator=generator)  # ok: stream-shared-by-threads
    alike = torch.Generator().manual_seed(0)
    torch.randn(2, generator=alike)  # ok: stream-shared-by-threads


def at_once(work):
    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


at_once(shared)
at_once(own)
for _ in range(2):
    thread = threading.Thread(target=torch.randn, args=(3,))  # ok: stream-shared-by-threads
    thread.start()
    thread.join()
torch.randn(2)  # ok: stream-shared-by-threads
