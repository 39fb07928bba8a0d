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
from auditor.record.probes import Probe
from auditor.record.probes.children import BOOT, VARIABLE
from auditor.record.process import Process


def arm(loaded: set[str]) -> Process:
    """Install everything in this process, once; `loaded` are the modules that were there before ours."""
    process = Process(json.loads(os.environ[VARIABLE]))
    process.begin()
    imports.install()
    for name, how in process.settings.get("factors", ()):
        _hold(process, name, how)
    process.observers = [
        (_member("record.observers", name, "OBSERVER"), own) for name, own in process.settings.get("observers", {}).items()
    ]
    # Registered first, so run last: what the user's own exit handlers do is still recorded.
    atexit.register(process.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lambda: _count_fork(process), after_in_child=process.forked)
    if process.settings.get("device"):
        # Only here, because few runs need it, and later none of ours can be imported. First of all: the recorder's modes lie above.
        from auditor.record import redirect

        imports.when_imported("torch", partial(redirect.install_torch, process))
    # One by one: a probe that does not fit a version of torch is reported and leaves the others alone.
    for probe in _probes(process.settings):
        if probe.install is not None:
            probe.install(process)
        if probe.install_torch is not None:
            imports.when_imported("torch", partial(probe.install_torch, process))
    ours = [name for name in sys.modules if name == "auditor" or name.startswith("auditor.")]
    process.modules = [sys.modules.pop(name) for name in ours]
    _leave_to_script(set(sys.modules) - loaded)
    start = sys.modules.get("sitecustomize")
    if getattr(start, "__file__", None) == os.path.join(BOOT, "sitecustomize.py"):
        imports.forget(start)  # type: ignore[arg-type]  # it has a file
    return process


def _probes(settings: dict[str, Any]) -> list[Probe]:
    """Those that the plan asks for, in the order in which they are installed."""
    folder = os.path.join(os.path.dirname(__file__), "probes")
    files = {entry[:-3] for entry in os.listdir(folder) if entry.endswith(".py") and entry != "__init__.py"}
    asked = {name for name in settings if os.path.isdir(os.path.join(folder, name))}
    found = [(name, _member("record.probes", name, "PROBE")) for name in sorted(files | asked)]
    return [probe for _, probe in sorted(found, key=lambda one: one[1].order)]


def _member(package: str, name: str, constant: str) -> Any:
    """The constant of one file of a package of ours."""
    return getattr(__import__(f"auditor.{package}.{name.replace('-', '_')}", fromlist=[constant]), constant)


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
        _member("factors", name, "FACTOR").inside(process, how)
    except Exception as error:  # whatever it is, it must not end the user's program
        if interrupts(error):
            raise
        imports.failed(_hold, RuntimeError(f"{name}: {type(error).__name__}: {error}"))


def _count_fork(process: Process) -> None:
    process.forks += 1
