"""Memory of a tensor that was handed out to NumPy or another library: what was in it when an op last used it."""

from __future__ import annotations

from typing import Any

from auditor.record import digest


class Handed:
    """What was in a storage when an op last wrote or read it, and the record of that; 0 if none has yet."""

    __slots__ = ("digest", "number")

    def __init__(self, number: int, content: int) -> None:
        self.number = number
        self.digest = content


def content_of(storage: Any) -> int:
    """Digest of all bytes of a storage on the CPU."""
    pointer, size = storage.data_ptr(), storage.nbytes()
    return digest.of_bytes(digest.array_type(size).from_address(pointer)) if pointer and size else 0
