"""forks: forty processes in a chain, each the child of the one before, each with ops and a status of its own."""

import os
import sys

import torch

torch.manual_seed(0)
depth = 0
while depth < 40:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        print(depth, os.waitstatus_to_exitcode(status))
        sys.stdout.flush()
        os._exit(depth)
    depth += 1
print("bottom", torch.rand(2))
