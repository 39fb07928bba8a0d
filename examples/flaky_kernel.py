"""Seeded, same op, same inputs, different results: column sums whose threads add in the order in which they finish."""

# repro-audit:
#   - verdict: diverged

import threading

import numpy as np
import torch


@torch.library.custom_op("flaky_kernel::column_sums", mutates_args=())
def column_sums(values: torch.Tensor) -> torch.Tensor:
    chunks = np.array_split(values.numpy(), 32)
    total = np.zeros(values.shape[1], dtype=np.float32)
    lock = threading.Lock()

    def add(chunk: np.ndarray) -> None:
        partial = np.sqrt(np.abs(chunk)).sum(axis=0)
        with lock:
            np.add(total, partial, out=total)

    threads = [threading.Thread(target=add, args=(chunk,)) for chunk in chunks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return torch.from_numpy(total)


torch.manual_seed(0)
x = torch.randn(4096, 256)
y = x.mean(dim=1, keepdim=True)
weight = torch.full((256, 1), 1 / 256, requires_grad=True)

for step in range(20):
    scale = column_sums(x) / len(x)  # <- diverges
    loss = ((x / scale) @ weight - y).square().mean()
    loss.backward()
    with torch.no_grad():
        weight -= 0.1 * weight.grad
        weight.grad.zero_()
    print(step, loss.item())
