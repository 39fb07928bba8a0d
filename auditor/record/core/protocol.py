"""What the rest of the recorder asks of a core, and what a core tells an observer.

A core records the ops of one thread. Probes know it by this protocol alone, so that another one (in C++, say) can take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from auditor.record.core.op_facts import OpFacts

#: Names and digests the stream that an op with these `args` and `kwargs` draws from; None if it draws from none.
StreamOf = Callable[[Any, Any], "tuple[str, int] | None"]


class Level(Enum):
    """How closely a process is recorded."""

    OFF = "off"
    """Random draws, seeds, settings and files; no op and no step."""
    STEPS = "steps"
    """Also digests at each step."""
    OPS = "ops"
    """Also every op that torch dispatches."""

    @property
    def sees_ops(self) -> bool:
        """Whether threads have the dispatch mode; the only place where levels are told apart by what they see."""
        return self is Level.OPS


class Core(Protocol):
    """Records the ops of one thread. Sites are numbers of a lane's call sites, numbers of records are those of `Lane.number`."""

    def op(self, mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an op and record it: the `__torch_dispatch__` of the thread's mode."""

    def external(self, tensor: Any, site: int) -> int:
        """Record a tensor that no recorded op made; the number of its record, 0 if it has no storage."""

    def draw(self, stream: str, function: str, state: int, site: int) -> int:
        """Record that `function` draws from a random stream whose state has this digest; the number of its record."""

    def producer_of(self, tensor: Any) -> int:
        """Number of the record that last wrote a tensor's storage; 0 for an external tensor."""

    def name_leaf(self, leaf: Any) -> tuple[str, int]:
        """What the script calls a leaf, and the number of the record that last wrote it."""

    def begin_backward(self, site: int) -> None:
        """A backward pass is called at this site."""

    def begin_step(self, site: int, closure: bool) -> None:
        """An optimizer's step begins, which calls a closure of the user's or does not."""

    def end_step(self) -> None:
        """The step is over."""

    def enter_module(self, module: Any) -> None:
        """A module is called."""

    def leave_module(self, module: Any) -> None:
        """The call is over."""

    def begin_graph(self, inputs: list[Any], written: Iterable[int]) -> None:
        """Compiled code is about to run on `inputs`, of which it writes those at the positions `written`."""

    def end_graph(self, out: Any) -> None:
        """It has run."""


class Observer:
    """Looks at ops before and after they run, in a rerun that asks for it; whatever it does not override it does not want to know."""

    def before(self, op: OpFacts, args: Any, kwargs: Any) -> Any:
        """An op is about to run. What is returned is given to `after`."""

    def after(self, op: OpFacts, args: Any, kwargs: Any, out: Any, kept: Any, number: int) -> None:
        """The op has run and has a record; `number` is that of the last record before it ran, `kept` what `before` returned."""

    def external(self, number: int, tensor: Any) -> None:
        """An external tensor got the record of this number."""

    def end(self) -> None:
        """The lane is about to be closed."""
