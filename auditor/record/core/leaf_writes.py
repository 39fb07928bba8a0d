"""The leaves whose gradients a backward pass accumulates: which one it is, and whether somebody wrote it unseen in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.trace import BACKWARD

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.record.core.leaves import Leaves
    from auditor.record.lane import Lane

#: Of the gradients of a leaf, the first so many at which it is looked whether it was written unseen.
_LOOKS = 16
_BACKWARD = BACKWARD << 8


class LeafWrites:
    """The leaves of one lane."""

    def __init__(self, lane: Lane, torch: Any, leaves: Leaves, producer_of: Callable[[Any], int]) -> None:
        self._lane = lane
        self._plain = (torch.Tensor, torch.nn.Parameter)
        self._leaves = leaves
        self._producer_of = producer_of
        self._seen: dict[int, tuple[int, Any, int]] = {}  # leaf -> its gradients so far, which and who wrote it last, digest or version
        self._told: dict[int, bool] = {}  # leaves that are looked at no longer

    def position(self, node: Any) -> tuple[int, int]:
        """`where` and `seq` of an op that accumulates a leaf's gradient: the leaf's number, and the record that last wrote the leaf."""
        try:
            variable = node.variable
            if variable.__class__ not in self._plain:
                with digest.Unseen():
                    number = self._leaves.number(variable)
                    return _BACKWARD | number << 16, self._producer_of(variable) if number else 0
            number = self._leaves.number(variable)
        except Exception as error:  # another kind of node, a variable that is gone, a name that was no name
            if interrupts(error):
                raise
            return _BACKWARD, 0
        written = self._producer_of(variable) if number else 0
        if number and not self._told.get(number, False):
            self._look(number, written, variable)
        return _BACKWARD | number << 16, written

    def _look(self, number: int, written: int, variable: Any) -> None:
        """Report, once, a leaf that has changed between two gradients though no recorded op wrote it: compiled code may, and NumPy.

        Looked at are the first gradients of each leaf, and then ever fewer.
        """
        count, before, known = self._seen.get(number, (0, None, 0))
        count += 1
        if count > _LOOKS and count & (count - 1):
            self._seen[number] = count, before, known
            return
        try:
            same = id(variable), written
            now = digest.of_tensor(variable) if variable.is_cpu else variable._version
        except Exception as error:  # a leaf that cannot be read as a dense tensor
            if interrupts(error):
                raise
            self._told[number] = True
            return
        if before == same and known != now:
            self._told[number] = True
            self._lane.line({"k": "unseen-write", "at": self._lane.number(), "leaf": number})
        self._seen[number] = count, same, now
