"""Ops of any form, which the fast path of `python.py` leaves to this.

They have several outputs, lists of tensors, randomness or writes that no schema declares, or are higher-order ops, collectives and
compiled graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.core.inputs import INTERNED_LIMIT
from auditor.record.core.tensors import Hidden
from auditor.trace import CUT, FORWARD, MORE_LIMIT
from auditor.trace.ops import COMPILED

if TYPE_CHECKING:
    from auditor.record.core.inputs import Inputs
    from auditor.record.core.measures import Measures
    from auditor.record.core.op_facts import OpFacts
    from auditor.record.core.outputs import Outputs
    from auditor.record.core.protocol import StreamOf
    from auditor.record.core.tensors import Tensors

_CUT = CUT << 8

#: `(descriptor, digests, producers, numbers, seq, site, where, made)`: writes a record with any number of digests and producers, and
#: makes it the last writer of the storages of the tensors `made`; its number.
Put = Callable[[int, "list[int]", "list[int]", int, int, int, int, "Iterable[Any]"], int]
#: `(stream, function, state, site)`, as `Core.draw`.
Draw = Callable[[str, str, int, int], int]


class GeneralOps:
    """The ops of one lane that have a form of their own."""

    def __init__(
        self, torch: Any, tensors: Tensors, inputs: Inputs, outputs: Outputs, measures: Measures, put: Put, draw: Draw, stream_of: StreamOf,
        unwritten: set[int],
    ) -> None:  # fmt: skip
        self._tensors, self._inputs, self._outputs, self._measures = tensors, inputs, outputs, measures
        self._put, self._draw, self._stream_of = put, draw, stream_of
        self._unwritten = unwritten
        self._asked = torch._C._has_torch_function
        self._hidden = Hidden(torch)
        self._under_fake_mode = lambda: torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None
        self._graph: tuple[list[int], list[Any], int] | None = None  # of compiled code: producers of its inputs, those it writes, its site

    def run(self, call: Any, op: int, facts: OpFacts, args: Any, kwargs: Any, seq: int, site: int, where: int) -> Any:
        """Run an op and record it. `where` is the position of the record: module, phase and flags as they are packed."""
        if self._asked(args) or any(a.__class__ is list and self._asked(a) for a in args):  # classes with only a `__torch_function__`
            return self._hidden.run(lambda seen: self.run(seen, op, facts, args, kwargs, seq, site, where), call)
        if facts.collective:
            return self._collective(call, facts, args, kwargs, site, where)
        phase = where >> 8 & 0xFF
        producers, key, floats = self._taken(facts, args, kwargs, site)
        if facts.random and not self._under_fake_mode() and (drawn := self._stream_of(args, kwargs)) is not None:
            stream, state = drawn
            self._draw(stream, facts.name, state, site)
        measured = facts.measured if phase <= FORWARD and facts.measured and self._measures.due(facts.name, site) else None
        before = self._measures.before(measured, args) if measured else None
        out = call(*args, **kwargs) if kwargs else call(*args)
        found = self._tensors.within(out, [])
        returned = len(found)
        if any(self._tensors.is_another_modes(tensor) for tensor in found):
            return out
        found += self._written(facts, args, kwargs, found)
        descriptor, digests = self._described(op, facts, found, returned, key)
        if not found and out is not None:
            # .item() and its like: a value that the program may branch on. What is packed of memory that nobody has written holds anything.
            unwritten = self._unwritten
            digests.append(0 if unwritten and not unwritten.isdisjoint(producers) else digest.of_value(out))
        cut = 0 if seq or phase > FORWARD or not self._tensors.require_gradient(args) else _CUT
        numbers = self._inputs.keep_numbers(tuple(floats)) if floats else 0
        first = self._put(descriptor, digests, producers, numbers, seq, site, where | cut, () if facts.shares else found)
        if facts.empty:
            self.keep_unwritten(first)
        if measured:
            self._measures.after(measured, call, args, kwargs, out, before)
        return out

    def _taken(self, facts: OpFacts, args: Any, kwargs: Any, site: int) -> tuple[list[int], list[Any], list[float]]:
        """The producers, the key and the floats of an op's arguments; what was in memory that is overwritten is no input."""
        producers: list[int] = []
        key: list[Any] = []
        floats: list[float] = []
        for position, a in enumerate(args):
            if not position and facts.overwrites:
                producers.append(self._inputs.producer_of(a))
            else:
                self._inputs.take(a, site, producers, key, floats)
        for name, a in (kwargs or {}).items():
            key.append(name)
            if name in facts.writes:  # out=
                self._inputs.producer_of(a)
            else:
                self._inputs.take(a, site, producers, key, floats)
        return producers, key, floats

    def _written(self, facts: OpFacts, args: Any, kwargs: Any, returned: list[Any]) -> list[Any]:
        """The inputs that an op writes and does not return."""
        if not facts.writes:
            return []
        found: list[Any] = []
        for part in self._tensors.within(facts.written(args, kwargs), []):
            if not any(part is other for other in (*returned, *found)):
                found.append(part)
        return found

    def _described(self, op: int, facts: OpFacts, found: list[Any], returned: int, key: list[Any]) -> tuple[int, list[int]]:
        try:
            shapes = [(t.shape, t.dtype, t.is_contiguous() or t.stride(), t.get_device(), t.is_meta) for t in found]
            what = (op, tuple(key), tuple(shapes))
            known = self._outputs.known.get(what) or self._outputs.define_several(facts, found, returned, what)
            return known[0], self._outputs.digests(known[1], found, MORE_LIMIT)
        except Exception as error:  # sparse, nested and other tensors that refuse one of these questions
            if interrupts(error):
                raise
            return self._outputs.unusual(facts, found, returned, key)

    def _collective(self, call: Any, facts: OpFacts, args: Any, kwargs: Any, site: int, where: int) -> Any:
        """An op between ranks: recorded without values; the tensors that it was given have no history afterwards.

        Those that it gives are in flight until they are waited for: till then it is what made them, and nobody reads them.
        """
        given = self._tensors.within([args, kwargs], [])
        producers = [self._inputs.producer_of(tensor) for tensor in given][: 3 * (MORE_LIMIT + 1)]
        out = call(*args, **kwargs) if kwargs else call(*args)
        made = self._tensors.within(out, [])
        given += made
        for tensor in given:
            try:
                del tensor.untyped_storage()._repro_audit
            except Exception as error:  # no storage, or one without a history
                if interrupts(error):
                    raise
        descriptor = self._outputs.of_metas(facts, [self._tensors.meta(tensor) for tensor in given], None)
        in_flight: list[Any] = []
        if facts.in_flight:
            for one in made:
                in_flight += digest.parts_of(one) if self._tensors.is_another_modes(one) else (one,)
        self._put(descriptor, [0], producers, 0, 0, site, where, in_flight)
        return out

    @digest.unseen
    def begin_graph(self, inputs: list[Any], written: Iterable[int], site: int) -> None:
        """Compiled code is about to run, see `probes/compiled.py`; it empties the list, so that memory is freed early."""
        found = self._tensors.within(inputs, [])
        producers: list[int] = []
        self._inputs.take(found, site, producers, [], [])
        self._inputs.in_graph = True
        self._graph = producers, [inputs[place] for place in written], site

    @digest.unseen
    def end_graph(self, out: Any, where: int) -> None:
        """Record what compiled code made of its inputs, and which of them it wrote, as one op."""
        if self._graph is None:
            return
        (producers, found, site), self._graph = self._graph, None
        self._inputs.in_graph = False
        self._tensors.within(out, found)
        found = [tensor for k, tensor in enumerate(found) if not any(tensor is other for other in found[:k])]
        descriptor = self._outputs.of_graph(COMPILED, [self._tensors.meta(tensor) for tensor in found])
        digests = [self._outputs.digest_of(tensor, place, MORE_LIMIT, len(found)) for place, tensor in enumerate(found)]
        self._put(descriptor, digests, producers, 0, 0, site, where, found)

    def keep_unwritten(self, number: int) -> None:
        """Remember a record that only allocated; of very many, the last: what is packed was allocated shortly before."""
        if len(self._unwritten) > INTERNED_LIMIT:
            self._unwritten.clear()
        self._unwritten.add(number)
