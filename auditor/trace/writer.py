"""Writes one lane's spool, inside the user's process: standard library only, and nothing here may raise into the script.

A disk that fills up is noticed before it hurts: files are allocated with `posix_fallocate`, because a sparse mapping on a
full disk kills the process with SIGBUS at some later store.

**No descriptor stays open.** A script may close all descriptors (`os.closerange`); those numbers are then its own files', and what is
written to a kept number would land in them. So everything is written through mappings, which hold no descriptor either (`_mapped`).

**A signal handler of the script's may raise between any two calls.** A file that was made and not yet taken into use is then made again.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import struct

from auditor.interruptions import interrupts
from auditor.trace import FORMAT, HEADER, HEADER_SIZE, MAGIC, NUMBERS, PROGRESS, PROGRESS_AT, RECORD_SIZE, SHADOW, SKETCH, STOPPED

_pack_header = struct.Struct(HEADER).pack_into
_pack_progress = struct.Struct(PROGRESS).pack_into
_FIRST_SEGMENT = 1 << 18
_FIRST_OF_OTHERS = 1 << 14  # of the lanes behind the first: a process can have many threads, most of which do little
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14: one call instead of a page fault every 100 records
_LARGEST_SEGMENT = 1 << 24
_SCRATCH = 1024  # records

_sketch = struct.Struct(SKETCH).pack
_shadow = struct.Struct(SHADOW).pack
_FASTEST_GROWTH = 1 << 26

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=repr, check_circular=False).encode


def make_folder(directory: str) -> None:
    """Make a folder of a run that its owner alone can read, whatever the umask, if it is not there. Raises OSError."""
    try:
        os.mkdir(directory, 0o700)
        os.chmod(directory, 0o700)
    except FileExistsError as error:
        if interrupts(error):
            raise
    except FileNotFoundError as error:  # the script removed its run directory
        if interrupts(error):
            raise
        os.makedirs(directory, 0o700, exist_ok=True)


class Numbers:
    """Hands out the record numbers of a process: a block for each segment, never one twice. 0 is nobody's.

    A forked child goes on from where its parent was, so that a smaller number is one of its forebears'. No lock: a signal handler that runs
    an op while this very thread takes a block would wait for ever.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, list[int]] = {}
        self._next = 1

    def take(self, count: int) -> int:
        """The first of so many consecutive numbers; 0 if there are no more."""
        mine = [count]
        first = self._next
        while first + count <= NUMBERS and (block := self._blocks.setdefault(first, mine)) is not mine:
            first += block[0]
        if first + count > NUMBERS:
            return 0
        self._next = first + count  # a hint: another thread may have taken more meanwhile
        return first


_libc = ctypes.CDLL(None)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_MAP_FIXED = 0x10


def _mapped(path: str, size: int) -> mmap.mmap:
    """A file, made if need be, in memory. Raises OSError if there is no room for it.

    `mmap.mmap` keeps a duplicate of the descriptor (up to 3.12 always) and closes that number at its end, whosever it is by then. So the
    file is mapped over anonymous memory of an `mmap` that has none.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)  # whatever the umask
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:  # macOS
            os.ftruncate(fd, size)
        memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        if _libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED, fd, 0) != address:
            raise OSError(errno.ENOMEM, "cannot be mapped")
    finally:
        os.close(fd)
    return memory


class Beside:
    """A file beside the records that grows at its end, mapped into memory: what is appended outlives the process. The rest is zero."""

    def __init__(self, path: str) -> None:
        self.used = self.room = 0
        self.memory: mmap.mmap | bytearray = bytearray()
        self._path = path

    def append(self, data: bytes) -> int:
        """Add bytes; returns where they lie. Raises OSError if there is no room for them."""
        size = len(data)
        while self.used + size > self.room:
            self.grow(self.used + size)
        # no call between the two: at each a signal handler or another thread may append
        at = self.used
        self.used = end = at + size
        self.memory[at:end] = data
        return at

    def grow(self, need: int) -> None:
        """Have room for this many bytes in all. Raises OSError if there is none."""
        room = max(min(self.room * 2, self.room + _FASTEST_GROWTH), 4096, need)
        memory = _mapped(self._path, room)
        if room > self.room:  # else another thread has had a larger one meanwhile
            self.memory, self.room = memory, room


class LaneWriter:
    """The files of one lane: `line` appends a JSON line, `next_segment` hands out memory for records.

    `stopped` is empty while all is well and one of `trace.STOPPED` afterwards; then `line` does nothing and
    `next_segment` hands out memory that nobody reads.
    """

    def __init__(self, directory: str, lane: int, numbers: Numbers) -> None:
        """Name the files; each is made when it is first written to."""
        self.path = os.path.join(directory, str(lane))
        self.segments = 0
        self.steps = 0
        self.stopped = ""
        self.head: mmap.mmap | None = None
        self._take = numbers.take
        self._size = _FIRST_SEGMENT if lane == 0 else _FIRST_OF_OTHERS
        self._before = 0  # records in the segments before the current one
        self._first = 0  # number of the first record of the current one
        self._room = 0
        self.lines, self._numbers, self._sketches, self._shadows, self.named, self.kept = (
            Beside(self.path + suffix) for suffix in (".jsonl", ".num", ".skt", ".shd", ".nam", ".val")
        )
        self._silent = False
        try:
            make_folder(directory)
        except OSError as error:
            if interrupts(error):
                raise
            self._silent = True
            self._stop(error)

    def line(self, event: dict[str, object]) -> None:
        """Append one event as a JSON line."""
        if self._silent:
            return
        try:
            self.lines.append((encode(event) + "\n").encode("utf-8", "surrogatepass"))
        except OSError as error:
            if interrupts(error):
                raise
            self._silent = True
            self._stop(error)
        except (ValueError, TypeError, RecursionError) as error:
            if interrupts(error):
                raise
            self._stop(None)

    def next_segment(self, last: int) -> tuple[mmap.mmap | bytearray, int, int, int]:
        """Map a new segment: `(buffer, offset of the first record, end, its number)`; `last` is the number of the last record so far."""
        records = self._size // RECORD_SIZE
        first = 0 if self.stopped else self._take(records)
        if not first:
            self.stop("too-long")
            return self._scratch()
        size = HEADER_SIZE + records * RECORD_SIZE
        try:
            buffer = _mapped(f"{self.path}.{self.segments}.seg", size)
        except OSError as error:
            if interrupts(error):
                raise
            self._stop(error)
            return self._scratch()
        self._populate(buffer)
        _pack_header(buffer, 0, MAGIC, FORMAT, RECORD_SIZE, first, 0, 0, 0, records)
        before, larger = self.position(last), min(self._size * 2, _LARGEST_SEGMENT)
        # it counts from here on, with no call in between
        if self.head is None:
            self.head = buffer
        self.segments += 1
        self._before, self._first, self._room, self._size = before, first, records, larger
        return buffer, HEADER_SIZE, size, first

    def position(self, number: int) -> int:
        """How many records the lane has up to this one, which is the last so far."""
        return self._before + (0 if self.stopped else max(min(number - self._first + 1, self._room), 0))

    def numbers(self, floats: tuple[float, ...]) -> int:
        """Append a group of floats to the `.num` file; returns its position plus one, 0 if it cannot be kept."""
        if self.stopped:
            return 0
        at = self._add(self._numbers, struct.pack(f"<{len(floats) + 1}d", len(floats), *floats))
        return at // 8 + 1 if at >= 0 else 0

    def sketch(self, *fields: float) -> None:
        """Append a sketch, see `trace.SKETCH`."""
        self._add(self._sketches, _sketch(*fields))

    def shadow(self, *fields: float) -> None:
        """Append what a shadow found, see `trace.SHADOW`."""
        self._add(self._shadows, _shadow(*fields))

    def make_room(self, file: Beside, need: int) -> bool:
        """Have room for this many bytes in all in one of the files of named values; whether there is."""
        if self.stopped:
            return False
        try:
            file.grow(need)
        except OSError as error:
            if interrupts(error):
                raise
            self._stop(error)
            return False
        return True

    def _add(self, file: Beside, data: bytes) -> int:
        """Append to a file; -1 if that is not possible."""
        if self.stopped:
            return -1
        try:
            return file.append(data)
        except OSError as error:
            if interrupts(error):
                raise
            self._stop(error)
            return -1

    @staticmethod
    def _populate(buffer: mmap.mmap) -> None:
        try:
            buffer.madvise(_POPULATE_WRITE)
        except (OSError, ValueError, AttributeError) as error:  # an older kernel, or not Linux
            if interrupts(error):
                raise

    def progress(self, number: int) -> None:
        """Note in the header how far the lane is, for whoever watches."""
        if self.head is not None:
            _pack_progress(self.head, PROGRESS_AT, self.position(number), self.steps, STOPPED.index(self.stopped))

    def close(self, number: int) -> None:
        """Write the end mark: `number` is the last record's."""
        self.progress(number)
        self.line({"k": "end", "records": self.position(number), "segments": self.segments, "steps": self.steps})

    def abandon(self) -> None:
        """Let go of the files without a word: they belong to the process that this one was forked from."""
        self.head = None
        self._silent = True
        self.stopped = "abandoned"

    def stop(self, reason: str) -> None:
        """Stop recording for good; the reason goes into the header, where it needs no further disk, or into a line if there is none."""
        if not self.stopped:
            self.stopped = reason
            self.progress(self._first - 1)
            if self.head is None:
                self.line({"k": "stopped", "why": reason})

    def _stop(self, error: OSError | None) -> None:
        number = None if error is None else error.errno
        if number in (errno.ENOENT, errno.ENOTDIR):
            self.stop("run-directory-gone")
        elif number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            self.stop("disk-full")
        else:
            self.stop("recorder-error")

    def _scratch(self) -> tuple[bytearray, int, int, int]:
        """Memory that nobody reads; its numbers are nobody's, or at the end of all numbers."""
        size = HEADER_SIZE + RECORD_SIZE * _SCRATCH
        return bytearray(size), HEADER_SIZE, size, self._take(_SCRATCH) or NUMBERS - _SCRATCH
