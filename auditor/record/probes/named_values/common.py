"""What the threads of one process share while named values are recorded."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

from auditor.record.probes.named_values.objects import Objects
from auditor.record.probes.named_values.others import Attributes

if TYPE_CHECKING:
    from auditor.record.probes.named_values.objects import Owner
    from auditor.record.probes.named_values.source import Loop, Target

#: Bytes of whole values that a lane keeps; sketches and what is smaller than one may take three times as much beside them.
BUDGET = 256 << 20


class Known:
    """A leaf, parameter or buffer that has a name."""

    __slots__ = ("at", "kind", "owner", "reference", "seen", "target", "text")

    def __init__(self, reference: Any, text: str, kind: str, target: Target, owner: Owner | None = None) -> None:
        self.reference, self.text, self.kind, self.target, self.owner = reference, text, kind, target, owner
        #: of a buffer, to which `reference` leads by way of its module: a digest of what was recorded of it last
        self.seen = 0
        #: likewise: its id
        self.at = 0


class Common:
    """The order, the steps, the leaves that have names."""

    def __init__(self, budget: int = BUDGET, first_whole: bool = False) -> None:
        self.order = itertools.count(1)
        self.budget = budget
        self.first_whole = first_whole
        self.leaves: dict[int, Known] = {}
        self.buffers: dict[tuple[int, str], Known] = {}  # id of a module, name within it -> what is known of its buffer
        self.of_buffers: dict[int, tuple[int, str]] = {}  # id of a buffer -> of which module, under which name
        self.named: dict[tuple[str, str, Owner | None], int] = {}  # scope, name and owner -> id of the leaf that has it now
        self.aliases: dict[int, tuple[str, Target, Owner | None]] = {}  # id of a leaf -> where else it lies
        self.passed_on: set[tuple[str, str]] = set()  # scopes and names that went from one leaf in a list to the next
        self.optimized = self.backwards = 0
        self.due = False  # a backward pass ran whose gradients were not read yet
        self.due_line = 0
        self.training: set[Loop] = set()
        self.callers_read = False  # variables of functions were read that are not the one that runs
        self.step = 0
        self.by_loops = "torch" not in sys.modules
        self.now = 0
        self.lost: dict[str, int] = {}
        self.start: Any = None  # set by `sharing` where a run begins with values of another
        self.noted: set[tuple[Target, str]] = set()  # paths that were given a value, and by which target
        self.attributes = Attributes()
        self.objects = Objects()
        self.plan_of: Any = None  # both set by `Watch`
        self.variables_of: Any = None

    def done(self) -> int:
        """Steps so far."""
        return self.optimized or self.backwards

    def entered(self, loop: Loop) -> None:
        """A loop's body begins once more."""
        loop.turn += loop.begun
        loop.begun = True
        self.now = loop.turn
        if loop in self.training:
            self.step = self.done()

    def step_of(self, loop: Loop | None) -> int:
        """The step in which a statement of this loop runs."""
        return self.step if not self.by_loops else self.now if loop is None else loop.turn

    def lose(self, what: str) -> None:
        """Count what was not recorded."""
        self.lost[what] = self.lost.get(what, 0) + 1
