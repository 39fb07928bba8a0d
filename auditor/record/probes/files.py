"""Files that the program opens, with a digest of what it will read; directory listings, with a digest of their order.

`open`, `io.open`, `os.rename`, `os.replace`, `os.listdir` and `os.scandir` are replaced; an audit hook would also be called at every op
(`sys._getframe` and `ctypes` raise audit events). Python's own files, installed packages, `/proc`, `/sys` and `/dev` are not the program's
data.

A file is read once by us as long as it does not change, whichever process of the run opens it, and all that we read of a run is bounded:
`contents.py`. A file that is opened to be added to or changed is read by us when it is first opened so, and not again: a log that is
opened at each step would be read at each step.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
from time import time_ns
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.callsite import is_user_code
from auditor.record.contents import BOUND, Contents
from auditor.record.digest import of_bytes
from auditor.record.imports import when_imported
from auditor.record.probes import Probe
from auditor.record.process import in_standard_library
from auditor.record.wrapping import replace, telling
from auditor.trace import TYPED

if TYPE_CHECKING:
    from auditor.record.process import Process

_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib")


def install(process: Process) -> None:
    """Watch the opening of files from now on."""
    foreign = tuple(
        {os.path.join(os.path.abspath(p), "") for p in (process.settings["run"], sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))}
    )
    contents = Contents(process.settings["spool"])
    changed: set[tuple[str, str]] = set()  # files that were opened to be changed, and how
    said: list[bool] = []

    def ours(path: str) -> bool:
        return (
            not path.startswith(foreign)
            and not path.startswith(_SYSTEM)
            and not path.endswith((".py", ".pyc", ".so"))
            and "site-packages" not in path
        )

    def written(path: str, mode: str) -> dict[str, Any]:
        return {"path": path, "op": "write", "mode": mode, "opened_at": time_ns()}

    def opened(_file: Any, path: Any, mode: str = "r", *_args: Any, **_kwargs: Any) -> None:
        if isinstance(path, int):
            return
        name = os.path.abspath(os.fsdecode(path))
        if not ours(name):
            return
        kind = mode.strip("btU")
        facts: dict[str, Any] = {"path": name, "op": "read", "mode": mode} if kind == "r" else written(name, mode)
        if kind == "r" or (kind[:1] in ("a", "r", "+") and (name, kind) not in changed):
            if kind != "r":
                changed.add((name, kind))
            found = contents.of(name)
            if found is None:
                return
            facts["changed_at"] = found.changed_at
            if found.digest is not None:
                facts["digest"] = found.digest
            elif not said:
                said.append(True)
                what = f"the content of files: after {BOUND >> 30} GiB of them, files that the run had not read before are not digested"
                process.lane().line({"k": "lost", "what": what, "count": 1})
            facts["size"], facts["partial"] = found.size, found.partial
        process.lane().event("file", **facts)

    def renamed(_none: None, _source: Any, target: Any, **_named: Any) -> None:
        name = os.path.abspath(os.fsdecode(target))
        if ours(name) and os.path.isfile(name):
            process.lane().event("file", **written(name, "rename"))

    def listed(names: Any, path: Any = ".") -> None:
        if not isinstance(path, int) and _for_the_program(sys._getframe(2).f_code):
            note_list(names, path)

    def note_list(names: Any, path: Any) -> None:
        where = os.path.abspath(os.fsdecode(path if path is not None else "."))
        if ours(os.path.join(where, "")):
            order = "\n".join(os.fsdecode(n) for n in names)
            process.lane().event(
                "file", path=where, op="list", asked_by=_asked_by(sys._getframe(2)), size=len(names),
                digest=of_bytes(order.encode("utf-8", "surrogateescape")),
            )  # fmt: skip

    def scanned(path: Any = ".") -> None:
        if isinstance(path, int) or not _for_the_program(sys._getframe(2).f_code):
            return
        try:
            note_list(original_listdir(path if path is not None else "."), path)
        except OSError as error:
            if interrupts(error):
                raise
            return

    original_listdir = os.listdir
    builtins.open = io.open = telling(builtins.open, opened, after=True)
    for how in ("rename", "replace"):
        replace(os, how, lambda original: telling(original, renamed, after=True))
    replace(os, "listdir", lambda original: telling(original, listed, after=True))
    replace(os, "scandir", lambda original: telling(original, scanned))

    def typed(line: Any, *_prompt: Any) -> None:
        text = str(line).encode("utf-8", "surrogateescape")
        process.lane().event("file", path="<stdin>", op="input", digest=of_bytes(text))  # it may be a password
        if process.settings.get("typed"):  # the auditor, which types it again in the next run, takes it from there
            fd = os.open(os.path.join(process.settings["spool"], TYPED), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.write(fd, text + b"\n")
            os.close(fd)

    builtins.input = telling(builtins.input, typed, after=True)

    def saved(_object: Any, path: Any, *_args: Any, **_kwargs: Any) -> None:
        if isinstance(path, (str, os.PathLike)) and ours(os.path.abspath(os.fsdecode(path))):
            process.lane().event("file", **written(os.path.abspath(os.fsdecode(path)), "torch.save"))

    # torch.save opens its file in C++
    when_imported("torch.serialization", lambda module: setattr(module, "save", telling(module.save, saved)))


def _asked_by(frame: FrameType | None) -> str:
    """`script` or `library`: who wanted a listing, whatever of Python's own library is between."""
    while frame is not None:
        name = frame.f_code.co_filename
        if not in_standard_library(name):
            return "script" if is_user_code(name) else "library"
        frame = frame.f_back
    return "library"


def _for_the_program(code: CodeType) -> bool:
    """Whether a directory is listed for what is in it: not to import a module, nor to remove a temporary directory with all its files."""
    name = code.co_filename
    looks_for_modules = name.endswith(("pkgutil.py", "inspect.py", "linecache.py")) or "importlib" in name
    return not looks_for_modules and not (code.co_name.startswith("_rmtree") and name.endswith("shutil.py"))


PROBE = Probe(install)
