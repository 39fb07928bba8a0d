"""introspection: what a script sees of its process: modules, paths, variables, flags, builtins, threads, hooks, main."""

import builtins
import gc
import os
import sys
import threading

import torch

print(sorted(os.environ), os.environb.get(b"PYTHONPATH"), os.getenv("PYTHONPATH"))
print(sys.path[1:], sys.flags, sys.argv, sys.orig_argv[1:], sys.warnoptions, sys._xoptions, len(sys.path_hooks))
print(
    sorted(vars(builtins)), [thread.name for thread in threading.enumerate()], sorted(globals()), __name__, __spec__, __loader__.__class__
)
print(sorted(name for name in sys.modules if "audit" in name or "xxhash" in name or name.startswith("site")))
print(sorted(set(vars(torch))), len(vars(torch.Tensor)), len(vars(torch.nn.Module)), sorted(vars(torch.optim.Optimizer)))
print(torch.ones(1).__dict__, vars(torch.nn.Linear(1, 1)).keys(), vars(torch.optim.SGD([torch.ones(1)], lr=0.1)).keys())
print(gc.isenabled(), gc.get_threshold(), gc.callbacks, sys.gettrace(), sys.getprofile(), sys.excepthook is sys.__excepthook__)
print(
    sys.getrecursionlimit(),
    sys.getswitchinterval(),
    threading.excepthook,
    sys.stdout.line_buffering,
    sys.displayhook is sys.__displayhook__,
)
frame, depth = sys._getframe(), 0
while frame:
    frame, depth = frame.f_back, depth + 1
print(depth, os.getpid() == os.getpgid(0), os.umask(0o22), os.nice(0))
