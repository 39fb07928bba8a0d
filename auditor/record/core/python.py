"""The core written in Python: every dispatched op of a thread, as one record.

**Why its middle is one closure.** It runs once an op, and an op of a small model takes a microsecond. A dispatch mode written
in Python costs 2 µs by itself; what is measured here is what is added. Closure cells are read and written three times as fast as
attributes; op facts are an attribute of the OpOverload because its `__hash__` is Python; a descriptor is looked up by one tuple,
and what it decides (may the memory be read as it lies, how many bytes) is stored with its number. So what each op touches is here:
the numbering of records, the position (phase, module, call site), and the form that most ops have (at most three tensors in, one out).
What is asked once a shape, or of other forms of ops, is in the other modules of this package.

**What is no op.** A tensor that is put together from another process's or a file's bytes (`set_` on a storage) is met as an external one
where it is first used: batches of several workers arrive in any order, and are used in one.

**What changes under any mode.** A few derivative formulas, see `trace/ops.py`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.callsite import ENGINE, IMPORT, LIBRARY, MODULE, OURS, STEP, TRANSPORT, hide_us
from auditor.record.core.general import GeneralOps
from auditor.record.core.inputs import Inputs
from auditor.record.core.leaf_writes import LeafWrites
from auditor.record.core.leaves import Leaves
from auditor.record.core.measures import Measures
from auditor.record.core.module_paths import ModulePaths
from auditor.record.core.op_facts import EMPTY, NORMAL, NUMBER, QUERY, SLOW, OpFacts
from auditor.record.core.outputs import Outputs
from auditor.record.core.pending import Pending
from auditor.record.core.tensors import Hidden, Tensors
from auditor.record.lane import pack
from auditor.record.mode import THEIRS, TRACED, whose
from auditor.trace import BACKWARD, CUT, FORWARD, MORE, MORE_LIMIT, OPTIMIZER, RECORD_SIZE, SETUP

if TYPE_CHECKING:
    from auditor.record.core.protocol import Observer, StreamOf
    from auditor.record.lane import Lane

_BACKWARD = BACKWARD << 8
_CUT = CUT << 8
_next_op = 0
_pack_number = struct.Struct("d").pack
_x3 = digest.of_bytes
_getframe = sys._getframe


# Names of torch, set by `bind` when torch is there.
_Tensor: Any
_Parameter: Any
_plain_types: Any
_plain_classes: Any
_get_seq: Any
_current_node: Any
_graph_task: Any
_with_device: bool
_asked_by_mode: Any
_numbers: Any


def bind(torch: Any) -> None:
    """Make the names of torch that the closure uses globals of this module: a closure cell each would be copied at every op."""
    global _Tensor, _Parameter, _plain_types, _plain_classes, _get_seq, _current_node, _graph_task, _with_device, _asked_by_mode, _numbers
    _Tensor, _Parameter = torch.Tensor, torch.nn.Parameter
    _plain_types = (torch.Tensor,)
    _plain_classes = (int, bool, str, torch.dtype, torch.device, torch.memory_format, torch.layout)
    _asked_by_mode = torch._C._is_torch_function_mode_enabled
    _numbers = (float, int, bool, complex)
    _get_seq = torch._C._autograd._get_sequence_nr
    _current_node = torch._C._current_autograd_node
    _graph_task = torch._C._current_graph_task_id
    _with_device = bool(torch.version.cuda or torch.version.hip or torch.backends.mps.is_built() or torch.xpu._is_compiled())


def learn_op(func: Any) -> tuple[int, int, Any, OpFacts]:
    """Ask an op's schema, and keep the answer on the op."""
    global _next_op
    facts = OpFacts(func)
    _next_op += 1
    known = (_next_op, facts.flag, facts.call, facts)
    try:
        func._repro_audit = known
    except AttributeError:
        pass
    return known


class _Known:
    """Stands for an op within the closure: what is known of it, with another way to call it."""

    __slots__ = ("_repro_audit",)

    def __init__(self, known: tuple[int, int, Any, OpFacts]) -> None:
        self._repro_audit = known


class PythonCore(NamedTuple):
    """The functions of one thread's core, see `protocol.Core`."""

    op: Callable[..., Any]
    external: Callable[[Any, int], int]
    draw: Callable[[str, str, int, int], int]
    producer_of: Callable[[Any], int]
    name_leaf: Callable[[Any], tuple[str, int]]
    begin_backward: Callable[[int], None]
    begin_step: Callable[[int, bool], None]
    end_step: Callable[[], None]
    enter_module: Callable[[Any], None]
    leave_module: Callable[[Any], None]
    begin_graph: Callable[[list[Any], Iterable[int]], None]
    end_graph: Callable[[Any], None]


def make_core(lane: Lane, torch: Any, stream_of: StreamOf, observers: Sequence[Observer] = ()) -> PythonCore:
    """Build the core of one thread. From then on it numbers the lane's records."""
    sites = lane.sites
    places, learn, define_site = sites.places, sites.learn, sites.define_site
    depth = 2 if observers else 1  # frames between `op` and whoever called the op

    n, buffer, off, end = lane.last, lane.buffer, lane.offset, lane.end
    last_seq = _get_seq()
    phase = SETUP
    outer_phase = FORWARD
    engine_site = 0
    closure_site = 0
    step_site = 0
    running: list[tuple[int, int, int]] = []  # modules whose call runs: number and site of the one around it, id
    module = 0
    module_site = 0  # where the current module was called, once an op had to ask
    where = 0

    # At each call a signal handler of the script's can run, draw numbers, and raise. A record's place is therefore taken and filled with no
    # call between the two: what was not filled would end the trace, and what was not taken would shift it.

    def roll() -> None:
        """Go on in the next segment."""
        nonlocal n, buffer, off, end
        buffer, off, end, first = lane.writer.next_segment(n)
        n = first - 1

    def emit(descriptor: int, digest_: int, site: int, rows: int = 0) -> int:
        nonlocal n, off
        if off == end:
            roll()
        n = number_ = n + 1
        at = off
        off = at + RECORD_SIZE
        pack(buffer, at, digest_, 0, site, 0, rows & 0xFFFFFFFF, rows >> 32, 0, where, descriptor)
        return number_

    def number() -> int:
        return n

    def put(
        descriptor: int, digests: list[int], producers: list[int], numbers: int, seq: int, site: int, flags: int, made: Iterable[Any]
    ) -> int:  # fmt: skip
        """Write a record with any number of digests and producers, of the tensors that it made; its number."""
        nonlocal n, off
        more = min(max(len(digests) - 1, (len(producers) - 1) // 3, 0), MORE_LIMIT)
        if len(digests) > more + 1:
            digests[more:] = [digest.of_many(digests[more:])]
        digests += [0] * (more + 1 - len(digests))
        producers = producers[: 3 * (more + 1)]
        producers += [0] * (3 * (more + 1) - len(producers))
        size = (more + 1) * RECORD_SIZE
        records = bytearray(size)
        pack(records, 0, digests[0], seq, site, numbers, *producers[:3], flags | more, descriptor)
        for k in range(1, more + 1):
            pack(records, k * RECORD_SIZE, digests[k], 0, 0, 0, *producers[3 * k : 3 * k + 3], 0, MORE)
        if off + size > end:  # all of them lie in one segment
            roll()
        first = n + 1
        n += more + 1
        at = off
        off = at + size
        buffer[at:off] = records
        for tensor in made:
            try:
                tensor.untyped_storage()._repro_audit = first
            except Exception as error:  # no storage of its own
                if interrupts(error):
                    raise
        if fresh:
            for k in range(more + 1):
                keep_places(k, buffer, at + k * RECORD_SIZE)
            fresh.clear()
        return first

    def draw(stream: str, function: str, state: int, site: int) -> int:
        return emit(lane.descriptor("draw", stream=stream, function=function), state, site)

    tensors, pending, hidden = Tensors(torch), Pending(lane, torch), Hidden(torch)
    fresh, keep_places, later = pending.fresh, pending.keep_places, pending.digest_of
    leaves = Leaves(lane)
    modules = ModulePaths(lane, leaves)
    measures = Measures(lane, torch)
    inputs = Inputs(lane, torch, tensors, pending, emit)
    outputs = Outputs(lane, torch, tensors, pending, inputs.plain_key)
    unwritten: set[int] = set()  # the records that allocated memory and left it as it was
    general = GeneralOps(torch, tensors, inputs, outputs, measures, put, draw, stream_of, unwritten)
    leaf_position = LeafWrites(lane, torch, leaves, inputs.producer_of).position
    deferring = bool(lane.deferring)  # of the CPU's tensors too
    descriptors, number_descriptors, number_ids = outputs.known, outputs.numbers, inputs.number_ids
    producer_of, external, keep_numbers = inputs.producer_of, inputs.external, inputs.keep_numbers
    define, define_number, unusual = outputs.define, outputs.define_number, outputs.unusual
    is_another_modes, require_gradient = tensors.is_another_modes, tensors.require_gradient
    general_op, keep_unwritten = general.run, general.keep_unwritten

    def walk(frame: Any) -> int:
        nonlocal module_site
        within = True  # nearer than the call of the current module
        importing = False
        while frame is not None:
            place = places.get(id(frame.f_code))
            if place is None:
                place = learn(frame.f_code)
            if place.__class__ is dict:
                site = place.get(~frame.f_lasti if importing else frame.f_lasti) or define_site(place, frame, importing)
                if not within:
                    module_site = site
                return site
            if place is not LIBRARY:
                if place == MODULE and within and running:
                    if module_site:
                        return module_site
                    within = False
                elif place == ENGINE:
                    return engine_site
                elif place == IMPORT:
                    importing = True
            frame = frame.f_back
        return 0

    def carries(frame: Any) -> bool:
        """Whether what called us through a stand-in for a factory of torch unpacks a tensor of another process."""
        place: Any = OURS
        while place == OURS:
            frame = frame.f_back
            if frame is None:
                return False
            place = places.get(id(frame.f_code))
            if place is None:
                place = learn(frame.f_code)
        return bool(place == TRANSPORT)

    def op(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        nonlocal n, off, last_seq, phase, where
        site = 0
        try:
            try:
                which, flag, call, facts = func._repro_audit
            except AttributeError:
                which, flag, call, facts = learn_op(func)
            if types:
                if types == _plain_types:
                    # SavedVariable's shallow detach: not an op of the program (12 of 109 in a small MLP)
                    return call(*args)
                who = whose(types)
                if who == THEIRS:
                    return NotImplemented
                if who == TRACED:
                    return call(*args, **kwargs) if kwargs else call(*args)
            if _asked_by_mode():
                return hidden.run(lambda seen: op(mode, _Known((which, flag, seen, facts)), (), args, kwargs), call)
            # where
            if step_site:
                site = step_site
                seq = 0
            else:
                try:
                    frame = _getframe(depth)
                    place = places.get(id(frame.f_code))
                    if place is None:
                        place = learn(frame.f_code)
                except ValueError as error:  # an autograd device thread has no Python frame
                    if interrupts(error):
                        raise
                    frame = place = None  # type: ignore[assignment]  # no frame
                if _graph_task() >= 0:
                    node = _current_node()
                    seq = node._sequence_nr() + 1 & 0xFFFFFFFF if node is not None else 0
                    phase = BACKWARD
                    where = _BACKWARD
                    if not seq and node is not None:  # the largest number that there is: a leaf's gradient is accumulated
                        where, seq = leaf_position(node)
                    if frame is not None:
                        last_seq = _get_seq()  # nodes made here are not those of the next forward op
                    if place == ENGINE:
                        site = engine_site
                    elif place.__class__ is dict:
                        site = place.get(frame.f_lasti) or define_site(place, frame)
                    else:
                        site = walk(frame) or engine_site
                else:
                    if phase == BACKWARD:
                        phase = outer_phase
                        where = module << 16 | phase << 8
                    seq = _get_seq()
                    if seq != last_seq:
                        last_seq = seq
                        if not phase or lane.unfinished_step:
                            begin_forward()
                    else:
                        seq = 0
                    if place.__class__ is dict:
                        site = place.get(frame.f_lasti) or define_site(place, frame)
                    elif place == TRANSPORT or (place == OURS and carries(frame)):
                        # Batches of several workers are unpacked in the order in which they happen to arrive, and used in their
                        # own. The tensor is external: it is met where it is used.
                        return call(*args, **kwargs) if kwargs else call(*args)
                    else:
                        site = walk(frame)
                    if closure_site:
                        site = in_closure(frame, site)
            if flag >= SLOW:
                if flag == QUERY:
                    return call(*args, **kwargs) if kwargs else call(*args)
                return general_op(call, which, facts, args, kwargs, seq, site, where)
            # what went in
            p0 = p1 = p2 = k = 0
            key: Any = None
            floats: Any = None
            first: Any = None
            first_storage: Any = None
            storage: Any = None
            for a in args:
                c = a.__class__
                if c is _Tensor or c is _Parameter:
                    try:
                        storage = a.untyped_storage()
                        p = storage._repro_audit
                    except Exception as error:  # no storage, or one that nobody has written under our eyes
                        if interrupts(error):
                            raise
                        p = producer_of(a) if facts.overwrites and not k else external(a, site)
                    if k == 0:
                        p0 = p
                        first = a
                        first_storage = storage
                    elif k == 1:
                        p1 = p
                    elif k == 2:
                        p2 = p
                    else:
                        return general_op(call, which, facts, args, kwargs, seq, site, where)
                    k += 1
                elif c is int or c is bool or a is None:
                    key = (a,) if key is None else (*key, a)
                elif c is float:
                    floats = (a,) if floats is None else (*floats, a)
                elif c is list and (not a or a[0].__class__ is int):
                    key = (tuple(a),) if key is None else (*key, tuple(a))
                else:
                    return general_op(call, which, facts, args, kwargs, seq, site, where)
            if kwargs:
                for name, a in kwargs.items():
                    c = a.__class__
                    if c is float:
                        floats = (a,) if floats is None else (*floats, a)
                    elif a is None or c in _plain_classes:
                        key = (name, a) if key is None else (*key, name, a)
                    else:
                        return general_op(call, which, facts, args, kwargs, seq, site, where)
                out = call(*args, **kwargs)
            else:
                out = call(*args)
            # what came out
            c = out.__class__
            if c is not _Tensor and (c not in _numbers if flag == NUMBER else is_another_modes(out)):
                return out
            cut = measured = written = None
            if not seq and phase <= FORWARD and first is not None and require_gradient(args):
                cut = True
            try:
                if flag == NUMBER:
                    # .item() and its like: a value that the program may branch on
                    descriptor = number_descriptors.get(c) or define_number(facts, out)
                    try:
                        h = _x3(_pack_number(out))
                    except (struct.error, TypeError) as error:  # complex, or an integer beyond 64 bits
                        if interrupts(error):
                            raise
                        h = _x3(repr(out).encode())
                else:
                    shape = (which, out.shape, out.dtype, out.is_contiguous() or out.stride(), key)
                    if _with_device:
                        shape = (*shape, out.get_device())  # type: ignore[assignment]  # one longer
                    known = descriptors.get(shape)
                    if known is None:
                        known = define(facts, out, shape)
                    descriptor, read, copied = known
                    if flag == NORMAL:
                        written = first_storage if out is first else out.untyped_storage()
                        if read is None:
                            h = later(out) if deferring or not out.is_cpu else digest.of_tensor(out)
                            if copied and phase <= FORWARD and measures.due(facts.name, site):
                                measured = copied
                        else:
                            source = out.contiguous() if copied else out
                            pointer = source.data_ptr()
                            if pointer:
                                h = _x3(read(pointer))
                            else:  # a meta tensor, or no elements
                                descriptor, (h,) = unusual(facts, [out], 1, key)
                    else:
                        if flag == EMPTY:
                            written = out.untyped_storage()
                        h = 0
            except Exception as error:  # sparse, nested and other tensors that refuse one of these questions
                if interrupts(error):
                    raise
                descriptor, (h,) = unusual(facts, [out], 1, key)
            numbers = 0 if floats is None else number_ids.get(floats) or keep_numbers(floats)
            if off == end:
                roll()
            n += 1
            at = off
            off = at + RECORD_SIZE
            if written is not None:
                written._repro_audit = n
            pack(buffer, at, h, seq, site, numbers, p0, p1, p2, where | _CUT if cut else where, descriptor)
            if fresh:
                keep_places(0, buffer, at)
                fresh.clear()
            if flag == EMPTY:
                keep_unwritten(n)
            if measured:
                measures.after(measured, call, args, kwargs, out, None)
            return out
        except BaseException as error:
            if site and flag != QUERY and interrupts(error):  # it arrives as soon as the op is done, before there is a record of it
                written_by = inputs.writers_of_written(facts, args, kwargs or {})
                lane.line({"k": "interrupted", "op": facts.name, "at": n, "site": site, "written": written_by})
            hide_us(error)
            fresh.clear()
            if step_site:
                look_for_the_step()
            raise

    def look_for_the_step() -> None:
        """An op failed within a step, which may end by it: from now on the stack is asked, op by op."""
        nonlocal step_site, closure_site
        closure_site, step_site = step_site, 0

    def begin_forward() -> None:
        """The first op of a new graph: setup is over, and so is the step of a script that updates by hand."""
        nonlocal phase, where
        if lane.unfinished_step:
            lane.unfinished_step()
        phase = FORWARD
        where = module << 16 | FORWARD << 8

    def begin_backward(site: int) -> None:
        nonlocal engine_site, outer_phase
        engine_site = site
        if phase != BACKWARD:
            outer_phase = phase or FORWARD

    def begin_step(site: int, closure: bool) -> None:
        nonlocal phase, step_site, closure_site, where
        pending.read()
        phase = OPTIMIZER
        where = OPTIMIZER << 8
        if closure:
            closure_site = site
        else:
            step_site = site

    def end_step() -> None:
        nonlocal phase, step_site, closure_site, where
        phase = FORWARD
        where = module << 16 | FORWARD << 8
        step_site = closure_site = 0

    def in_closure(frame: Any, site: int) -> int:
        """Within `step(closure)`: an op belongs to the optimizer unless the user's code is nearer than the optimizer's `step`."""
        nonlocal phase, where
        while frame is not None:
            place = places.get(id(frame.f_code)) or learn(frame.f_code)
            if place.__class__ is dict:
                break
            if place == STEP:
                phase = OPTIMIZER
                where = OPTIMIZER << 8
                return closure_site
            frame = frame.f_back
        phase = FORWARD
        where = module << 16 | FORWARD << 8
        return site

    def begin_graph(given: list[Any], written: Iterable[int]) -> None:
        nonlocal phase, where
        frame = _getframe(1)
        if step_site:
            site = step_site
        elif _graph_task() >= 0:
            phase = BACKWARD
            where = _BACKWARD
            site = walk(frame) or engine_site
        else:
            if phase == BACKWARD:
                phase = outer_phase
                where = module << 16 | phase << 8
            site = walk(frame)
        general.begin_graph(given, written, site)

    def end_graph(out: Any) -> None:
        general.end_graph(out, where)

    def enter_module(called: Any) -> None:
        nonlocal module, module_site, where
        found = modules.known.get(id(called))
        if found is None or found[0]() is not called:
            found = modules.learn(called, not running)
        running[len(running) :] = [(module, module_site, id(called))]  # all of it or nothing: no call from here on
        module = found[1]
        module_site = 0
        if phase != BACKWARD:
            where = module << 16 | phase << 8

    def leave_module(called: Any) -> None:
        nonlocal module, module_site, where
        at = len(running) - 1
        while at >= 0 and running[at][2] != id(called):  # a signal handler that raised can have kept others from being left
            at -= 1
        if at >= 0:  # a module that was entered before this thread's first op is left without having been entered here
            module, module_site, _ = running[at]
            del running[at:]
            if phase != BACKWARD:
                where = module << 16 | phase << 8

    def name_leaf(variable: Any) -> tuple[str, int]:
        return leaves.name(variable), producer_of(variable)

    lane.emit = emit  # type: ignore[method-assign, assignment]  # see the module docstring of lane.py
    lane.number = number  # type: ignore[method-assign]  # likewise
    if observers:
        inputs.met_external = _shown_external(observers)
        lane.at_end += [observer.end for observer in observers]
    return PythonCore(
        _shown(op, lane, observers) if observers else op, external, draw, producer_of, name_leaf, begin_backward, begin_step, end_step,
        enter_module, leave_module, begin_graph, end_graph,
    )  # fmt: skip


def _shown(op: Callable[..., Any], lane: Lane, observers: Sequence[Observer]) -> Callable[..., Any]:
    """`Core.op`, with each op that gets a record shown to the observers before and after it runs."""

    def shown(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            if types and (types == _plain_types or whose(types)):
                return op(mode, func, types, args, kwargs)  # which has no record
            facts = (getattr(func, "_repro_audit", None) or learn_op(func))[3]
            number = lane.number()
            kept = [observer.before(facts, args, kwargs or {}) for observer in observers]
            out = op(mode, func, types, args, kwargs)
            if out is not NotImplemented and lane.number() != number:
                for observer, before in zip(observers, kept, strict=True):
                    observer.after(facts, args, kwargs or {}, out, before, number)
            return out
        except BaseException as error:
            hide_us(error)
            raise

    return shown


def _shown_external(observers: Sequence[Observer]) -> Callable[[int, Any], None]:
    def met(number: int, tensor: Any) -> None:
        for observer in observers:
            observer.external(number, tensor)

    return met
