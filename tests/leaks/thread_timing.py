"""Adds up numbers in the order in which two threads produce them."""

import threading

import torch

torch.manual_seed(0)
order = []


def work(number):
    for k in range(400_000):
        order.append(number + k * 1e-7)


threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
for thread in threads:
    thread.start()  # <- enters
for thread in threads:
    thread.join()
print(torch.tensor(order, dtype=torch.float64).cumsum(0)[::1000].sum())
