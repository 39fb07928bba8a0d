"""threads: fifty, with ops, gradients, local state, daemons and one that raises."""

import threading

import torch

local = threading.local()
results = {}


def work(k):
    local.k = k
    x = torch.full((3,), float(k), requires_grad=True)
    (x * x).sum().backward()
    with torch.no_grad():
        results[local.k] = x.grad.sum().item(), torch.is_grad_enabled(), threading.current_thread().name


threads = [threading.Thread(target=work, args=(k,), name=f"t{k}", daemon=k % 2 == 0) for k in range(50)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print([results[k] for k in range(50)], threading.active_count(), torch.is_grad_enabled())
raised = []
threading.excepthook = lambda args: raised.append((args.exc_type.__name__, str(args.exc_value)[:40], args.thread.name))
thread = threading.Thread(target=lambda: torch.ones(2).reshape(5), name="bad")
thread.start()
thread.join()
print(raised)
timer = threading.Timer(0.01, work, (50,))
timer.start()
timer.join()
print(results[50][0])
