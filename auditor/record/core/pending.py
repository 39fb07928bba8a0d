"""Digests that cannot be written with their record: those of results on a device, and of memory that was handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record import digest
from auditor.record.core.handed_memory import content_of

if TYPE_CHECKING:
    from auditor.record.lane import Lane

#: In the place of which tensor a digest is of: it is a storage that was handed out.
_HANDED = -1


class Pending:
    """What the op that runs leaves to be done; `fresh` is empty unless it leaves something."""

    def __init__(self, lane: Lane, torch: Any) -> None:
        self._lane = lane
        self._deferred = digest.Deferred(torch)
        self.fresh: list[tuple[int, Any]] = []
        """Digests that are not read yet, and which of the op's tensors each is of."""
        self.read = self._deferred.read
        lane.at_end.append(self._report)

    def digest_of(self, tensor: Any, which: int = 0) -> int:
        """0, and the digest of this tensor of the op is put into its record when it is read."""
        found = self._deferred.sum_of(tensor)
        if found is not None:
            self.fresh.append((which, found))
        return 0

    def look_again(self, storage: Any) -> None:
        """Digest handed-out memory behind the op that runs, which may write it."""
        self.fresh.append((_HANDED, storage))

    def keep_places(self, position: int, memory: Any, offset: int) -> None:
        """Remember where the digest of the op's tensor at this position belongs: a record that was just written."""
        for which, found in self.fresh:
            if which == _HANDED:
                _look_again(found)
            elif which == position:
                self._deferred.wait_for(found, memory, offset)

    def _report(self) -> None:
        self._deferred.read()
        if self._deferred.captured:
            self._lane.line({"k": "lost", "what": "results within a CUDA graph", "count": self._deferred.captured})


def _look_again(storage: Any) -> None:
    written = getattr(storage, "_repro_audit", None)
    if written is not None:
        handed = storage._repro_audit_handed
        handed.number, handed.digest = written, content_of(storage)
        del storage._repro_audit
