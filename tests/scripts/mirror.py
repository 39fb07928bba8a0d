"""Writes everything that a script can see about itself as JSON to the file named by its first argument.

With `--torch` also what it can see of numpy and torch.
"""
# ruff: noqa: E402  # what was loaded before is looked at first

import sys

before = sorted(sys.modules)
first_path = sys.path[0]
all_paths = list(sys.path)

import atexit
import builtins
import gc
import io
import json
import locale
import os
import random
import signal
import stat
import threading
import warnings


def kind_of(fd):
    """What a descriptor is connected to."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError as error:
        return error.strerror
    return next(
        (name for name in ("S_ISREG", "S_ISFIFO", "S_ISCHR", "S_ISSOCK", "S_ISDIR") if getattr(stat, name)(mode)),
        oct(mode),
    )


def flags_of(fd):
    """Access mode and blocking mode of a descriptor."""
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_NONBLOCK)
    except OSError as error:
        return error.strerror


def stream(name):
    """The properties of a standard stream."""
    value = getattr(sys, name)
    if value is None:
        return None
    same = value is getattr(sys, f"__{name}__")
    return [value.isatty(), value.encoding, value.errors, value.newlines, value.line_buffering, value.name, same]


def try_(call):
    """A short word for the outcome of a call."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def generators():
    """Whether the generators have the types that they should have."""
    import numpy as np
    import torch

    np.random.seed(3)
    random.seed(3)
    torch.manual_seed(3)
    own, cpu, legacy = np.random.default_rng(3), torch.Generator(), np.random.RandomState(3)
    return {
        "types": [
            type(own) is np.random.Generator,
            type(cpu) is torch.Generator,
            type(legacy) is np.random.RandomState,
            type(random.Random(1)) is random.Random,
            type(torch.nn.Parameter(torch.ones(1))) is torch.nn.Parameter,
            type(torch.ones(1)) is torch.Tensor,
            isinstance(cpu, torch._C.Generator),
            type(random._inst) is random.Random,
        ],
        "draws": [own.random(), legacy.rand(), np.random.rand(), random.random(), torch.rand(1).item(), float(cpu.initial_seed())],
        "after": [random.random(), float(np.random.rand()), torch.rand(1).item()],
        "torch": [torch.get_num_threads(), torch.is_grad_enabled(), str(torch.get_default_dtype()), torch.initial_seed()],
        "modes": "FunctionalTensor" in sys.modules or "torch._dynamo" in sys.modules,
        "names": [np.random.rand.__name__, np.random.default_rng.__name__, torch.manual_seed.__name__, torch.save.__name__],
    }


handlers = {}
for number in signal.valid_signals():
    try:
        handlers[int(number)] = str(signal.getsignal(number))
    except ValueError:
        pass

facts = {
    "argv": sys.argv,
    "orig_argv": sys.orig_argv[1:],
    "executable": sys.executable,
    "file": __file__,
    "name": __name__,
    "doc": __doc__,
    "package": __package__,
    "spec": getattr(__spec__, "name", None) and [__spec__.name, __spec__.origin, type(__spec__.loader).__name__],
    "loader": type(globals().get("__loader__")).__name__,
    "globals": sorted(set(globals()) - {"facts"}),
    "path": all_paths,
    "first_path": first_path,
    "cwd": os.getcwd(),
    "flags": str(sys.flags),
    "xoptions": sys._xoptions,
    "warnoptions": sys.warnoptions,
    "streams": {name: stream(name) for name in ("stdin", "stdout", "stderr")},
    "kinds": [kind_of(fd) for fd in (0, 1, 2)],
    "access": [flags_of(fd) for fd in (0, 1, 2)],
    "excepthook": [sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__],
    "displayhook": sys.displayhook is sys.__displayhook__,
    "unraisablehook": sys.unraisablehook is sys.__unraisablehook__,
    "meta_path": [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path],
    "path_hooks": [getattr(hook, "__name__", str(hook)) for hook in sys.path_hooks],
    "modules": before,
    "auditor": sorted(name for name in sys.modules if "auditor" in name),
    "filters": [str(entry) for entry in warnings.filters],
    "handlers": handlers,
    "threads": [threading.active_count(), threading.current_thread().name, threading.main_thread() is threading.current_thread()],
    "trace": [str(sys.gettrace()), str(sys.getprofile()), sys.getrecursionlimit(), sys.getswitchinterval()],
    "gc": [gc.isenabled(), gc.get_threshold(), len(gc.callbacks)],
    "environ": dict(os.environ),
    "locale": [locale.getlocale(), sys.getfilesystemencoding(), sys.getdefaultencoding()],
    "umask": [os.umask(0o22), os.getpriority(os.PRIO_PROCESS, 0), os.getpgid(0) == os.getpgid(os.getppid())],
    "session": os.getsid(0) == os.getsid(os.getppid()),
    "builtins": sorted(vars(builtins)),
    "names": [open.__name__, io.open is open, os.listdir.__name__, random.random.__name__, input.__name__],
    "random": (random.seed(5), random.random(), random.sample(range(100), 5))[1:],
    "stack": sys._getframe(0).f_back is None,
    "exit_handlers": hasattr(atexit, "register"),
    "terminal": try_(lambda: os.get_terminal_size(1)),
}
if "--torch" in sys.argv:
    facts["generators"] = generators()
if "--print" in sys.argv:
    print("printed")
    print("complained", file=sys.stderr)
with open(sys.argv[1], "w") as file:
    json.dump(facts, file, default=str)
