"""`python -m tests.warm`: runs `python -m auditor` repeatedly, each time in a fork of a process that has already done the imports.

A command spends a second on imports before it parses its words, and the tests run some thousand commands. The forked process has imported
what the commands import and done nothing else: no thread, no database, no file. Whatever a command starts is started fresh. A test that is
about the start itself starts the interpreter instead.

A request is a line of JSON on stdin (`cwd`, `environment`, `words`, and the files `out` and `err`); the answer is the status, on a line.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import runpy
import sys
from typing import Any

import auditor

#: What runs in the script's process, and what needs torch: the auditor imports neither.
_ELSEWHERE = ("auditor.record", "auditor.__main__")


def _import_all() -> None:
    for module in pkgutil.walk_packages(auditor.__path__, "auditor.", onerror=lambda name: None):
        if not module.name.startswith(_ELSEWHERE):
            importlib.import_module(module.name)
    assert "torch" not in sys.modules


def _become(request: dict[str, Any]) -> None:
    for number, path, how in ((0, os.devnull, os.O_RDWR), (1, request["out"], os.O_WRONLY), (2, request["err"], os.O_WRONLY)):
        file = os.open(path, how | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.argv[1:] = request["words"]


def main() -> None:
    """Answer requests until there are no more."""
    _import_all()
    answers = os.dup(1)
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            os.close(answers)
            _become(json.loads(line))
            runpy.run_module("auditor", run_name="__main__", alter_sys=True)
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(answers, f"{status}\n".encode())


if __name__ == "__main__":
    main()
