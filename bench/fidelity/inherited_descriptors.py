"""descriptors: what children inherit, with close_fds, without, and with pass_fds."""

import os
import subprocess
import sys

import torch

torch.ones(2).sum()
read, write = os.pipe()
os.set_inheritable(write, True)
ask = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
for how in ({}, {"close_fds": False}, {"pass_fds": (read,)}, {"start_new_session": True}, {"umask": 0o77}):
    done = subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE, text=True, **how)
    print(how, done.stdout.strip(), done.returncode)
done = subprocess.run(["/bin/sh", "-c", f"echo told >&{write}"], close_fds=False)
os.close(write)
print(os.read(read, 100), done.returncode)
