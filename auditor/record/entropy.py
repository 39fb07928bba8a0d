"""Bytes in place of the operating system's entropy: the same in every run, others in every process of a run.

Which process it is, is told by its role (rank, the identity that multiprocessing gives, the order of forks), never by its pid.
"""

from __future__ import annotations

import _thread
import os
import sys
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_128_digest

from auditor.record.wrapping import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.process import Process

_urandom = os.urandom


class Source:
    """One stream of bytes, of a factor's own; `vary` gives one that is another in every run."""

    def __init__(self, process: Process, factor: str, how: str) -> None:
        self._process = process
        self._key = _urandom(16) if how == "vary" else factor.encode()
        self._counts: dict[bytes, int] = {}

    def take(self, size: int) -> bytes:
        """The next `size` bytes; each thread has its own, because one of a library's takes some whenever it is asked for something."""
        role = role_of(self._process)
        if _thread.get_ident() != self._process.main_thread:
            role += b"thread %d" % self._process.thread_number()
        count = self._counts.get(role, 0)
        out = b""
        while len(out) < size:
            count += 1
            out += xxh3_128_digest(self._key + role + count.to_bytes(8, "little"))
        self._counts[role] = count
        return out[:size]

    def integer(self, bits: int) -> int:
        """The next number of this many bits."""
        return int.from_bytes(self.take((bits + 7) // 8), "little") >> (-bits % 8)


def role_of(process: Process) -> bytes:
    """Which process of the run this is, alike in every run; empty for the one that the user started."""
    # not by current_process(): bytes are wanted while that module is being imported
    current = getattr(sys.modules.get("multiprocessing.process"), "_current_process", None)
    role = process.rank, tuple(getattr(current, "_identity", ())), process.role.get("fork")
    return b"" if role == (None, (), None) else repr(role).encode()


def outside_workers(process: Process) -> Callable[[], bool]:
    """Whether the current process is no DataLoader worker: in those, `worker-seed` alone holds."""
    return lambda: process.role.get("worker") is None


def seeds_from(source: Source, concerns: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """For `replace_in_type`: a `torch.Generator.seed` that takes its number from here, for the generators that are concerned."""

    def made(method: Any) -> Any:
        def seed(generator: Any) -> int:
            if not concerns(generator):
                return int(method(generator))
            number = source.integer(63)
            generator.manual_seed(number)
            return number

        return stand_in(method, seed)

    return made
