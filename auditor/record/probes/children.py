"""Processes that the program starts: each is given what arms the recorder in it, and each is noted with the line that starts it.

The two variables that arm the recorder are in the environment that C hands on to a child, and not in `os.environ`: the program does not
see them. Where it gives a child an environment of its own they are put into that, if the child is Python or the environment was made
from the program's. The helper of a library that has a search path of its own is the library's business, and so is its environment.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.callsite import is_ours, is_user_code
from auditor.record.imports import failed, when_imported
from auditor.record.probes import Probe
from auditor.record.process import in_standard_library
from auditor.record.wrapping import replace, stand_in

if TYPE_CHECKING:
    from auditor.record.process import Process

VARIABLE, _PATH = "REPRO_AUDIT", "PYTHONPATH"
#: The folder of the `sitecustomize` that arms the recorder.
BOOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "boot")
#: Where `_posixsubprocess.fork_exec` takes its files to execute, the folder, and the environment.
_FILES, _FOLDER, _ENVIRONMENT = 1, 4, 5


def install(process: Process) -> None:
    """Hide what arms the recorder, hand it on, and watch the starting of processes from now on."""
    boot = os.fsencode(BOOT)
    settings = os.fsencode(os.environ[VARIABLE])
    _hide(boot)
    if hasattr(os, "unsetenv"):
        _keep_search_path(boot)

    def handed_on(given: Mapping[bytes, bytes], program: str) -> dict[bytes, bytes]:
        """The environment for a child."""
        own = {os.fsencode(name) for name in os.environ}
        path, usual = given.get(os.fsencode(_PATH)), os.environ.get(_PATH)
        helper = path not in (None, usual and os.fsencode(usual)) and not _started_by_user()
        if os.fsencode(VARIABLE) in given or helper or not (runs_python(program) or 2 * len(own & set(given)) > len(own)):
            return dict(given)
        return {**given, os.fsencode(VARIABLE): settings, os.fsencode(_PATH): _first(boot, path)}

    def note(pid: int | None, program: str, **more: Any) -> None:
        # a thread gets no lane by this alone: whether a library starts a helper there is often chance
        lane = process.existing_lane() or (process.lanes[0] if process.lanes else process.lane())
        lane.event("child", pid=pid, program=os.path.basename(program), python=runs_python(program), helper=not _started_by_user(), **more)

    def forking(original: Any) -> Any:
        def body(*args: Any) -> Any:
            if args[_ENVIRONMENT : _ENVIRONMENT + 1] not in ((), (None,)):
                made = _tried(lambda: handed_on(dict(entry.partition(b"=")[::2] for entry in args[_ENVIRONMENT]), program_of(args)))
                if made is not None:
                    args = (*args[:_ENVIRONMENT], [name + b"=" + value for name, value in made.items()], *args[_ENVIRONMENT + 1 :])
            return original(*args)

        def program_of(args: Any) -> str:
            folder = os.fsdecode(args[_FOLDER] or ".")
            paths = [os.path.join(folder, os.fsdecode(file)) for file in args[_FILES]]
            return next(filter(os.path.exists, paths), paths[0])

        return stand_in(original, body, None, lambda pid, *args: note(pid, program_of(args)))

    def executing(original: Any, replaces: bool) -> Any:
        """For `posix_spawn` and, which `replaces` the process, `execve`."""

        def body(path: Any, words: Any, *rest: Any, **named: Any) -> Any:
            environment = rest[0] if rest else named.get("env")
            if isinstance(environment, Mapping):
                made = _tried(
                    lambda: handed_on({os.fsencode(name): os.fsencode(value) for name, value in environment.items()}, _named(path))
                )
                if made is not None:
                    rest, named = ((made, *rest[1:]), named) if rest else (rest, {**named, "env": made})
            return original(path, words, *rest, **named)

        def before(path: Any, *_args: Any, **_named_ones: Any) -> None:
            if isinstance(path, int) or os.path.isfile(path):  # `execvp` tries each folder of the search path
                note(os.getpid(), _named(path))

        if replaces:
            return stand_in(original, body, before)
        return stand_in(original, body, None, lambda pid, path, *_args, **_named_ones: note(pid, _named(path)))

    def waiting(original: Any) -> Any:
        """For `system`, which does not say the number of its shell: what is started meanwhile is started by it."""

        def body(*args: Any, **named: Any) -> Any:
            since = time.time()
            try:
                return original(*args, **named)
            finally:
                _tried(lambda: note(None, "sh", since=since, until=time.time()))

        return stand_in(original, body)

    def children_of_python(module: Any) -> None:
        original = module.fork_exec
        replace(module, "fork_exec", forking)
        imported = sys.modules.get("subprocess")
        if getattr(imported, "_fork_exec", None) is original:
            imported._fork_exec = module.fork_exec  # type: ignore[union-attr]  # it has the attribute

    when_imported("_posixsubprocess", children_of_python)
    for name, replaces in (("posix_spawn", False), ("posix_spawnp", False), ("execve", True), ("execv", True)):
        if hasattr(os, name):
            replace(os, name, partial(executing, replaces=replaces))
    replace(os, "system", waiting)


def runs_python(program: str) -> bool:
    """Whether a program is a Python, or a script whose first line names one."""
    real = os.path.realpath(program)
    if os.path.basename(real).startswith(("python", "pypy")):
        return True
    try:
        fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if interrupts(error):
            raise
        return False
    try:
        head = os.read(fd, 200)
    except OSError as error:
        if interrupts(error):
            raise
        return False
    finally:
        os.close(fd)
    return head.startswith(b"#!") and b"python" in head.partition(b"\n")[0]


def _named(path: Any) -> str:
    return str(path) if isinstance(path, int) else os.fsdecode(path)


def _hide(boot: bytes) -> None:
    """Take our variables out of `os.environ` alone."""
    known: Any = os.environ
    known._data.pop(known.encodekey(VARIABLE), None)
    key = known.encodekey(_PATH)
    value = os.fsencode(os.environ.get(_PATH, ""))
    if value == boot:
        known._data.pop(key, None)
    elif value.startswith(boot + os.fsencode(os.pathsep)):
        known._data[key] = known.encodevalue(os.fsdecode(value[len(boot) + 1 :]))


def _keep_search_path(boot: bytes) -> None:
    """Let the search path that children get begin with ours, whatever the program sets it to."""
    put = os.putenv

    def putting(original: Any) -> Any:
        def body(name: Any, value: Any) -> None:
            original(name, _first(boot, os.fsencode(value)) if os.fsencode(name) == os.fsencode(_PATH) else value)

        return stand_in(original, body)

    def unsetting(original: Any) -> Any:
        def body(name: Any) -> None:
            if os.fsencode(name) == os.fsencode(_PATH):
                put(name, boot if isinstance(name, bytes) else os.fsdecode(boot))
            else:
                original(name)

        return stand_in(original, body)

    replace(os, "putenv", putting)
    replace(os, "unsetenv", unsetting)


def _first(boot: bytes, path: bytes | None) -> bytes:
    return boot + os.fsencode(os.pathsep) + path if path else boot


def _started_by_user() -> bool:
    """Whether the innermost frame outside the recorder and Python's own library is the user's."""
    frame: Any = sys._getframe(1)
    while frame is not None and (is_ours(frame.f_code.co_filename) or in_standard_library(frame.f_code.co_filename)):
        frame = frame.f_back
    return frame is None or is_user_code(frame.f_code.co_filename)


def _tried(make: Callable[[], Any]) -> Any:
    """What `make` makes; None if it fails: then the program's own arguments are used, and meet their error."""
    try:
        return make()
    except Exception as error:
        if interrupts(error):
            raise
        failed(_tried, error)
        return None


PROBE = Probe(install)
