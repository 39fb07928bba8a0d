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
    children,
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


def arm(loaded: set[str]) -> Process:
    """Install everything in this process, once; `loaded` are the modules that were there before ours."""
    process = Process(json.loads(os.environ[children.VARIABLE]))
    process.begin()
    imports.install()
    for name, how in process.settings.get("factors", ()):
        _hold(process, name, how)
    python_rng.install(process)
    files.install(process)
    threads.install(process)
    children.install(process)
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
    _leave_to_script(set(sys.modules) - loaded)
    start = sys.modules.get("sitecustomize")
    if getattr(start, "__file__", None) == os.path.join(children.BOOT, "sitecustomize.py"):
        imports.forget(start)  # type: ignore[arg-type]  # it has a file
    return process


def _leave_to_script(names: set[str]) -> None:
    """Take out of `sys.modules` what we imported and the script would import from elsewhere: a file of its own has that name."""
    folders = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if not getattr(sys.flags, "safe_path", False):
        folders.insert(0, _folder_of_script())
    find: Any = next((finder.find_spec for finder in sys.meta_path if getattr(finder, "__name__", "") == "PathFinder"), None)
    for top in {name.partition(".")[0] for name in names}:
        spec = getattr(sys.modules.get(top), "__spec__", None)
        if spec is None or spec.origin in ("built-in", "frozen"):  # which no file precedes
            continue
        found = find(top, folders) if find is not None else None
        if top in ("xxhash", "_xxhash") or (found is not None and found.loader is not None):
            for name in names:
                if name.partition(".")[0] == top:
                    sys.modules.pop(name, None)


def _folder_of_script() -> str:
    """Where the script's own modules are looked for first."""
    script = Process.script()
    if script == "-c" or script.startswith("-m "):
        return os.getcwd()
    real = os.path.realpath(script)
    return real if os.path.isdir(real) else os.path.dirname(real)


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
