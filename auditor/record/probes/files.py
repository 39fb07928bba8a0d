"""Files that the program opens, with a digest of what it will read; directory listings, with a digest of their order.

`open`, `io.open`, `os.listdir` and `os.scandir` are replaced; an audit hook would also be called at every op (`sys._getframe` and
`ctypes` raise audit events). Python's own files, installed packages, `/proc`, `/sys` and `/dev` are not the program's data.
"""

from __future__ import annotations

import builtins
import io
import os
import stat
import sys
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64

from auditor.interruptions import interrupts
from auditor.record.callsite import is_user_code
from auditor.record.digest import of_bytes
from auditor.record.imports import when_imported
from auditor.record.probes.wrapping import replace, telling
from auditor.record.process import in_standard_library

if TYPE_CHECKING:
    from auditor.record.process import Process

#: A larger file is represented by its size and its first and last megabytes.
WHOLE_FILE = 256 << 20
_EDGE = 1 << 20
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib")


def install(process: Process) -> None:
    """Watch the opening of files from now on."""
    foreign = tuple(
        {os.path.join(os.path.abspath(p), "") for p in (process.settings["run"], sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))}
    )
    original_open = builtins.open
    digests: dict[tuple[str, int, int], int] = {}

    def ours(path: str) -> bool:
        return (
            not path.startswith(foreign)
            and not path.startswith(_SYSTEM)
            and not path.endswith((".py", ".pyc", ".so"))
            and "site-packages" not in path
        )

    def digest_of(path: str) -> tuple[int, int, bool] | None:
        try:
            facts = os.stat(path)
            if not stat.S_ISREG(facts.st_mode):
                return None
            key = (path, facts.st_mtime_ns, facts.st_size)
            if key not in digests:
                digests[key] = _digest_file(path, facts.st_size)
            return digests[key], facts.st_size, facts.st_size > WHOLE_FILE
        except OSError as error:
            if interrupts(error):
                raise
            return None

    def opened(_file: Any, path: Any, mode: str = "r", *_args: Any, **_kwargs: Any) -> None:
        if isinstance(path, int):
            return
        name = os.path.abspath(os.fsdecode(path))
        if not ours(name):
            return
        reads = "r" in mode or "+" in mode or "a" in mode
        facts: dict[str, Any] = {"path": name, "op": "read" if mode.strip("btU") == "r" else "write", "mode": mode}
        if reads:
            found = digest_of(name)
            if found is None:
                return
            facts["digest"], facts["size"], facts["partial"] = found
        process.lane().event("file", **facts)

    def listed(names: Any, path: Any = ".") -> None:
        if not isinstance(path, int) and _for_the_program(sys._getframe(2).f_code):
            note_list(names, path)

    def note_list(names: Any, path: Any) -> None:
        where = os.path.abspath(os.fsdecode(path if path is not None else "."))
        if ours(os.path.join(where, "")):
            order = "\n".join(os.fsdecode(n) for n in names)
            process.lane().event(
                "file", path=where, op="list", mode=_asked_by(sys._getframe(2)), size=len(names),
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
    builtins.open = io.open = telling(original_open, opened, after=True)
    replace(os, "listdir", lambda original: telling(original, listed, after=True))
    replace(os, "scandir", lambda original: telling(original, scanned))
    builtins.input = telling(
        builtins.input, lambda line, *_a: process.lane().event("file", path="<stdin>", op="input", text=line), after=True
    )

    def saved(_object: Any, path: Any, *_args: Any, **_kwargs: Any) -> None:
        if isinstance(path, (str, os.PathLike)) and ours(os.path.abspath(os.fsdecode(path))):
            process.lane().event("file", path=os.path.abspath(os.fsdecode(path)), op="write", mode="torch.save")

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


def _digest_file(path: str, size: int) -> int:
    running = xxh3_64()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if size > WHOLE_FILE:
            running.update(str(size).encode())
            running.update(os.read(fd, _EDGE))
            os.lseek(fd, size - _EDGE, os.SEEK_SET)
        while chunk := os.read(fd, _EDGE):
            running.update(chunk)
    finally:
        os.close(fd)
    return running.intdigest()
