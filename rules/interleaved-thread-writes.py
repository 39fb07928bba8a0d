"""Threads that alternately add to one tensor, and threads that pass one on."""

import threading
import time

import torch

total = torch.zeros(2)
lock = threading.Lock()


def add(value):
    for _ in range(20):
        with lock:
            total.add_(value)  # finds: interleaved-thread-writes
        time.sleep(0.002)


threads = [threading.Thread(target=add, args=(0.1 * k,)) for k in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

handed = torch.zeros(2)


def fill(value):
    for _ in range(5):
        handed.add_(value)  # ok: interleaved-thread-writes


for k in range(3):
    thread = threading.Thread(target=fill, args=(k,))
    thread.start()
    thread.join()
    handed.mul_(0.5)  # ok: interleaved-thread-writes

own = [torch.zeros(2) for _ in range(2)]


def keep(k):
    for _ in range(20):
        own[k].add_(1)  # ok: interleaved-thread-writes
        time.sleep(0.002)


threads = [threading.Thread(target=keep, args=(k,)) for k in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
