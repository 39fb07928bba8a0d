"""Digests of the contents of files: one a state of a file in the whole run, and no more bytes read for them than the run's bound.

The processes of a run share what they know through one file in the spool, to which each adds and in which each looks for what the
others found: a worker that is started anew for each epoch reads nothing a second time.
"""

from __future__ import annotations

import os
import stat
import struct
from time import time_ns
from typing import NamedTuple

from xxhash import xxh3_64, xxh3_64_intdigest

from auditor.interruptions import interrupts

#: A larger file is represented by its size and its first and last megabytes.
WHOLE_FILE = 256 << 20
_EDGE = 1 << 20
#: Bytes that one run reads for digests, in all its processes.
BOUND = 4 << 30
#: Clocks of file systems are coarse: a file that changed this many nanoseconds ago can change again without having another time.
_SETTLED = 50_000_000

#: Of which file in which state, its digest, bytes that were read for it.
_ENTRY = struct.Struct("<QQQ")


class Content(NamedTuple):
    """What is known of a file; its digest is None where the bound is reached."""

    digest: int | None
    size: int
    partial: bool
    changed_at: int
    """When it was written or put in its place, in ns."""


class Contents:
    """The digests of one run, as far as this process knows them."""

    def __init__(self, spool: str) -> None:
        """Take the folder that the processes of the run share."""
        self._path = os.path.join(spool, "contents")
        self._known: dict[int, int] = {}
        self._read_to = 0
        self._spent = 0

    def of(self, path: str) -> Content | None:
        """What a file holds; None if it is no file whose content stays."""
        try:
            facts = os.stat(path)
            if not stat.S_ISREG(facts.st_mode):
                return None
            changed_at = max(facts.st_mtime_ns, facts.st_ctime_ns)
            state = f"{facts.st_dev} {facts.st_ino} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_size}"
            key = xxh3_64_intdigest(state.encode()) or 1
            partial = facts.st_size > WHOLE_FILE
            digest = self._known.get(key)
            if digest is None:
                self._learn()
                digest = self._known.get(key)
            size = 2 * _EDGE if partial else facts.st_size
            if digest is None and self._spent + size <= BOUND:
                settled = time_ns() - changed_at > _SETTLED  # asked before it is read
                digest = _digest(path, facts.st_size)
                self._tell(key if settled else 0, digest, size)
        except OSError as error:
            if interrupts(error):
                raise
            return None
        return Content(digest, facts.st_size, partial, changed_at)

    def _learn(self) -> None:
        """Take in what the processes of the run have found since."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if interrupts(error):
                raise
            return
        try:
            whole = os.fstat(fd).st_size // _ENTRY.size * _ENTRY.size
            while self._read_to < whole:
                data = os.pread(fd, min(whole - self._read_to, _EDGE // _ENTRY.size * _ENTRY.size), self._read_to)
                if not data:
                    break
                self._read_to += len(data)
                for key, digest, size in _ENTRY.iter_unpack(data):
                    self._spent += size
                    if key:
                        self._known[key] = digest
        finally:
            os.close(fd)

    def _tell(self, key: int, digest: int, size: int) -> None:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if interrupts(error):
                raise
            self._spent += size
            return
        try:
            os.write(fd, _ENTRY.pack(key, digest, size))  # whole, since it is short, and at the end, whoever else writes
        finally:
            os.close(fd)


def _digest(path: str, size: int) -> int:
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
