"""Arms the recorder in a process of the user's program: reads one settings variable, opens the files, installs the probes.

Each probe is installed when its module has finished importing; nothing here imports torch or numpy. When all is in place the
auditor's names are taken out of `sys.modules` again: a script may have a module called `auditor` of its own.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from functools import partial
from typing import Any

from auditor.interruptions import interrupts
from auditor.record import imports
from auditor.record.probes import (
    autocast,
    compiled,
    files,
    foreign_memory,
    modules,
    numpy_rng,
    pools,
    python_rng,
    settings,
    steps,
    threads,
    torch_mode,
    torch_rng,
    workers,
)
from auditor.record.process import Process

VARIABLE = "REPRO_AUDIT"


def arm() -> Process:
    """Install everything in this process, once."""
    process = Process(json.loads(os.environ[VARIABLE]))
    process.begin()
    imports.install()
    for name, how in process.settings.get("factors", ()):
        _hold(process, name, how)
    python_rng.install(process)
    files.install(process)
    threads.install(process)
    pools.install(process)
    settings.install(process)
    numpy_rng.install(process)
    workers.install(process)
    torch_mode.prepare(process)
    if process.settings.get("device"):
        # Only here, because few runs need it, and later none of ours can be imported. First of all: the recorder's modes lie above.
        from auditor.record import redirect

        imports.when_imported("torch", partial(_install_torch, redirect.install_torch, process))
    # One by one: a probe that does not fit a version of torch is reported and leaves the others alone.
    for probe in (torch_rng, settings, steps, autocast, torch_mode, compiled, modules, threads, workers, foreign_memory):
        imports.when_imported("torch", partial(_install_torch, probe.install_torch, process))
    if process.settings.get("device"):
        imports.when_imported("torch", partial(_install_torch, redirect.install_threads, process))
    # Registered first, so run last: what the user's own exit handlers do is still recorded.
    atexit.register(process.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lambda: _count_fork(process), after_in_child=process.forked)
    if process.settings.get("names") is not None:
        # Here for the same reason, and last: what it watches are the lines that run from now on.
        from auditor.record.probes import named_values

        named_values.install(process)
    ours = [name for name in sys.modules if name == "auditor" or name.startswith("auditor.")]
    process.modules = [sys.modules.pop(name) for name in ours]
    return process


def _hold(process: Process, name: str, how: str) -> None:
    """Pin, vary or watch a factor, before the probes watch what it changes; one that does not fit here is reported."""
    try:
        __import__(f"auditor.factors.{name.replace('-', '_')}", fromlist=["FACTOR"]).FACTOR.inside(process, how)
    except Exception as error:  # whatever it is, it must not end the user's program
        if interrupts(error):
            raise
        imports.failed(_hold, RuntimeError(f"{name}: {type(error).__name__}: {error}"))


def _count_fork(process: Process) -> None:
    process.forks += 1


def _install_torch(install: Any, process: Process, torch: object) -> None:
    process.torch = torch
    install(process, torch)
