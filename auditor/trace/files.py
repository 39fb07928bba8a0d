"""How files of kept runs are made and read.

What is made is its owner's alone, under any umask, and new: nothing is written through a link of somebody else's. What is read is a regular
file that is no link, so that a pipe cannot block and a device is not read, and not larger than the caller expects.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

FILE_MODE, FOLDER_MODE = 0o600, 0o700
#: Bytes of a file of JSON that is read: a hundred times what a run of a day writes.
LARGEST = 1 << 30


class NotOursError(OSError):
    """Something stands where a file of a run is expected, and is none."""


def make_folder(folder: Path, exist_ok: bool = False) -> None:
    """Make a folder and those above it, each its owner's alone."""
    if not folder.parent.exists():
        make_folder(folder.parent, exist_ok=True)
    try:
        folder.mkdir(FOLDER_MODE)
        folder.chmod(FOLDER_MODE)
    except FileExistsError:
        if not exist_ok or not folder.is_dir():
            raise


def locked(fd: int) -> bool | None:
    """Take the lock of an open file or folder, which goes with the descriptor: whether we have it; None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def create(path: Path) -> int:
    """A descriptor of a new file, in the place of whatever has this name."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    os.fchmod(fd, FILE_MODE)
    return fd


def write(path: Path, data: bytes | str) -> None:
    """Write a new file, in the place of whatever has this name."""
    with os.fdopen(create(path), "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)


def open_regular(path: Path, largest: int | None = LARGEST) -> int:
    """A descriptor to read a regular file. Raises OSError, for a link, a pipe, a device, a folder or a larger file `NotOursError`."""
    before = path.lstat()
    if not stat.S_ISREG(before.st_mode):  # opening some devices does something, so they are not opened
        raise NotOursError(f"{path.name} is {'a link' if stat.S_ISLNK(before.st_mode) else 'no file'}")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    facts = os.fstat(fd)
    wrong = "is no file" if not stat.S_ISREG(facts.st_mode) else "is too large" if largest is not None and facts.st_size > largest else ""
    if wrong:
        os.close(fd)
        raise NotOursError(f"{path.name} {wrong}")
    return fd


def read(path: Path, largest: int | None = LARGEST) -> bytes:
    """The content of a regular file. Raises what `open_regular` does."""
    with os.fdopen(open_regular(path, largest), "rb") as file:
        return file.read()


def in_database(path: Path) -> str:
    """What a database calls a file: where the name of its folder is no UTF-8, or would be a pattern of names, by a link of our own."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return str(_linked(path.parent) / path.name)
    return str(_linked(path.parent) / path.name) if set(str(path)) & set("*?[") else str(path)


@cache
def _links() -> str:
    import atexit  # none of these in the user's process, which has use for a part of this module only
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="repro-audit-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _linked(folder: Path) -> Path:
    link = Path(_links(), str(_linked.cache_info().currsize))
    link.symlink_to(folder.resolve())
    return link
