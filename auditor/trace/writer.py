"""Writes one lane's spool, inside the user's process: standard library only, and nothing here may raise into the script.

A disk that fills up is noticed before it hurts: segments are allocated with `posix_fallocate`, because a sparse mapping on a
full disk kills the process with SIGBUS at some later store.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct

from auditor.trace import FORMAT, HEADER, HEADER_SIZE, LANE_SPAN, MAGIC, RECORD_SIZE, SHADOW, SKETCH, STOPPED

_pack_header = struct.Struct(HEADER).pack_into
_FIRST_SEGMENT = 1 << 18
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14: one call instead of a page fault every 100 records
_LARGEST_SEGMENT = 1 << 24

_sketch = struct.Struct(SKETCH).pack
_shadow = struct.Struct(SHADOW).pack
_FASTEST_GROWTH = 1 << 26

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=repr, check_circular=False).encode


def make_folder(directory: str) -> None:
    """Make a folder of a run that its owner alone can read, whatever the umask, if it is not there. Raises OSError."""
    try:
        os.mkdir(directory, 0o700)
        os.chmod(directory, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:  # the script removed its run directory
        os.makedirs(directory, 0o700, exist_ok=True)


class Beside:
    """A file beside the records that grows at its end, mapped into memory: what is appended outlives the process. The rest is zero."""

    def __init__(self, path: str) -> None:
        self.used = self.room = 0
        self.memory: mmap.mmap | bytearray = bytearray()
        self._path = path

    def append(self, data: bytes) -> None:
        """Add bytes. Raises OSError if there is no room for them."""
        end = self.used + len(data)
        if end > self.room:
            self.grow(end)
        self.memory[self.used : end] = data
        self.used = end

    def grow(self, need: int) -> None:
        """Have room for this many bytes in all. Raises OSError if there is none."""
        room = max(min(self.room * 2, self.room + _FASTEST_GROWTH), 4096, need)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not self.room:
                os.fchmod(fd, 0o600)  # whatever the umask
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, room)
            else:  # macOS
                os.ftruncate(fd, room)
            self.memory = mmap.mmap(fd, room)
        finally:
            os.close(fd)
        self.room = room


class LaneWriter:
    """The files of one lane: `line` appends a JSON line, `next_segment` hands out memory for records.

    `stopped` is empty while all is well and one of `trace.STOPPED` afterwards; then `line` does nothing and
    `next_segment` hands out one scratch segment that is written over and over.
    """

    def __init__(self, directory: str, lane: int, base: int) -> None:
        """Create the `.jsonl` and the first segment; `base` is the lane's first record number minus one."""
        self.path = os.path.join(directory, str(lane))
        self.first = base + 1
        self.segments = 0
        self.steps = 0
        self.stopped = ""
        self.head: mmap.mmap | None = None
        self.buffer: mmap.mmap | bytearray = bytearray(HEADER_SIZE + RECORD_SIZE)
        self._size = _FIRST_SEGMENT
        self._numbers, self._sketches, self._shadows, self.named, self.kept = (
            Beside(self.path + suffix) for suffix in (".num", ".skt", ".shd", ".nam", ".val")
        )
        self._fd = -1
        try:
            make_folder(directory)
            self._fd = os.open(self.path + ".jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.fchmod(self._fd, 0o600)
        except OSError as error:
            self._stop(error)

    def line(self, event: dict[str, object]) -> None:
        """Append one event as a JSON line, in one `write`."""
        if self._fd < 0:
            return
        try:
            data = (encode(event) + "\n").encode("utf-8", "surrogatepass")
            written = os.write(self._fd, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, "short write")
        except OSError as error:
            self._stop(error)
        except (ValueError, TypeError, RecursionError):
            self._stop(None)

    def next_segment(self, number: int) -> tuple[mmap.mmap | bytearray, int, int]:
        """Map a new segment whose first record has this number: `(buffer, offset of the first record, end)`."""
        if not self.stopped and number - self.first + self._size // RECORD_SIZE >= LANE_SPAN - 1:
            self.stop("too-long")
        if self.stopped:
            return self._scratch()
        records = self._size // RECORD_SIZE
        size = HEADER_SIZE + records * RECORD_SIZE
        try:
            fd = os.open(f"{self.path}.{self.segments}.seg", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(fd, 0o600)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(fd, 0, size)
                else:  # macOS
                    os.ftruncate(fd, size)
                buffer = mmap.mmap(fd, size)
                self._populate(buffer)
            finally:
                os.close(fd)
        except OSError as error:
            self._stop(error)
            return self._scratch()
        _pack_header(buffer, 0, MAGIC, FORMAT, RECORD_SIZE, number, 0, 0, 0)
        self.buffer = buffer
        if self.head is None:
            self.head = buffer
        self.segments += 1
        self._size = min(self._size * 2, _LARGEST_SEGMENT)
        return buffer, HEADER_SIZE, size

    def numbers(self, floats: tuple[float, ...]) -> int:
        """Append a group of floats to the `.num` file; returns its position plus one, 0 if it cannot be kept."""
        if self.stopped:
            return 0
        at = self._numbers.used // 8
        self._add(self._numbers, struct.pack(f"<{len(floats) + 1}d", len(floats), *floats))
        return 0 if self.stopped else at + 1

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
            self._stop(error)
            return False
        return True

    def _add(self, file: Beside, data: bytes) -> None:
        if self.stopped:
            return
        try:
            file.append(data)
        except OSError as error:
            self._stop(error)

    @staticmethod
    def _populate(buffer: mmap.mmap) -> None:
        try:
            buffer.madvise(_POPULATE_WRITE)
        except (OSError, ValueError, AttributeError):  # an older kernel, or not Linux
            pass

    def progress(self, number: int) -> None:
        """Note in the header how far the lane is, for whoever watches."""
        if self.head is not None:
            _pack_header(
                self.head, 0, MAGIC, FORMAT, RECORD_SIZE, self.first, number - self.first + 1, self.steps,
                STOPPED.index(self.stopped),
            )  # fmt: skip

    def close(self, number: int) -> None:
        """Write the end mark: `number` is the last record's."""
        self.progress(number)
        self.line({"k": "end", "records": number - self.first + 1, "segments": self.segments, "steps": self.steps})
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def abandon(self) -> None:
        """Let go of the files without a word: they belong to the process that this one was forked from."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.head = None
        self.stopped = "abandoned"

    def stop(self, reason: str) -> None:
        """Stop recording for good; the reason goes into the header, where it needs no further disk."""
        if not self.stopped:
            self.stopped = reason
            self.progress(self.first - 1)

    def _stop(self, error: OSError | None) -> None:
        number = None if error is None else error.errno
        if number in (errno.ENOENT, errno.ENOTDIR):
            self.stop("run-directory-gone")
        elif number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            self.stop("disk-full")
        else:
            self.stop("recorder-error")

    def _scratch(self) -> tuple[bytearray, int, int]:
        scratch = bytearray(HEADER_SIZE + RECORD_SIZE * 1024)
        return scratch, HEADER_SIZE, len(scratch)
