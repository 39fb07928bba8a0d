"""descriptors: files may not grow beyond a limit, and the script meets the error where it would have met it."""

import os
import resource
import signal

import torch

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open("large.bin", "wb", buffering=0) as file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    x = torch.ones(4)
    for step in range(3000):
        x = x.cos()
    try:
        print([file.write(bytes(1 << 18)) for _ in range(6)])
    except OSError as error:
        print(error.strerror, os.fstat(file.fileno()).st_size)
print(x)
