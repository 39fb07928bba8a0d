"""Every dispatched op of a thread, as one record.

**Why the handler is one closure.** It runs once an op, and an op of a small model takes a microsecond. A dispatch mode written
in Python costs 2 µs by itself; what is measured here is what is added. Closure cells are read and written three times as fast as
attributes; op facts are an attribute of the OpOverload because its `__hash__` is Python; a signature is looked up by one tuple,
and what it decides (may the memory be read as it lies, how many bytes) is stored with its number.

**Whose storage is it.** The number of the record that last wrote a storage is an attribute of the storage object. Storages keep
their Python object for as long as they live, so it survives views, `detach`, saved tensors and collection of the tensor; a table by
address does not (17 % of the producers of a `from_numpy` loop were wrong), and an attribute of the tensor would be pickled with it.

**What is no op.** A tensor that is put together from another process's or a file's bytes (`set_` on a storage) is met as an external one
where it is first used: batches of several workers arrive in any order, and are used in one.

**What changes under any mode.** A few derivative formulas, see `trace/ops.py`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.callsite import ENGINE, IMPORT, LIBRARY, MODULE, OURS, STEP, TRANSPORT, hide_us
from auditor.record.lane import pack
from auditor.record.mode import THEIRS, TRACED, whose
from auditor.record.probes.foreign_memory import content_of
from auditor.record.probes.leaves import Leaves
from auditor.record.probes.measure import Measures, by_result
from auditor.record.probes.modules import ModulePaths
from auditor.record.probes.op_facts import EMPTY, NORMAL, NUMBER, QUERY, SLOW, OpFacts
from auditor.trace import BACKWARD, CHANGED, CUT, FORWARD, MORE, MORE_LIMIT, OPTIMIZER, RECORD_SIZE, SETUP
from auditor.trace.ops import COMPILED

if TYPE_CHECKING:
    from auditor.record.lane import Lane

_INTERNED_LIMIT = 200_000
#: In the place of which tensor a digest is of: it is a storage that was handed out.
_HANDED = -1
#: Of the gradients of a leaf, the first so many at which it is looked whether it was written unseen.
_LEAF_LOOKS = 16
_BACKWARD = BACKWARD << 8
_CUT = CUT << 8
_next_op = 0
_pack_number = struct.Struct("d").pack
_x3 = digest.of_bytes
_getframe = sys._getframe


# Names of torch, set by `bind` when torch is there.
_Tensor: Any
_Parameter: Any
_Size: Any
_plain_types: Any
_plain_classes: Any
_disabled: Any
_get_seq: Any
_current_node: Any
_graph_task: Any
_with_device: bool
_strided: Any
_asked_by_mode: Any
_asked: Any
_Hidden: Any
_past_one: Any
_numbers: Any
_fake_mode: Any


def bind(torch: Any) -> None:
    """Make the names of torch that the handlers use globals of this module: a closure cell each would be copied at every op."""
    global _Tensor, _Parameter, _Size, _plain_types, _plain_classes
    global _disabled, _get_seq, _current_node, _graph_task, _with_device, _strided
    global _asked_by_mode, _asked, _Hidden, _past_one, _numbers, _fake_mode
    _Tensor, _Parameter, _Size = torch.Tensor, torch.nn.Parameter, torch.Size
    _plain_types = (torch.Tensor,)
    _plain_classes = (int, bool, str, torch.dtype, torch.device, torch.memory_format, torch.layout)
    _strided = torch.strided
    _asked_by_mode, _asked = torch._C._is_torch_function_mode_enabled, torch._C._has_torch_function
    _Hidden, _past_one = torch._C.DisableTorchFunction, getattr(torch._C, "_skip_one_hop_torch_function", None)
    _numbers = (float, int, bool, complex)
    _fake_mode = partial(torch._C._get_dispatch_mode, torch._C._TorchDispatchModeKey.FAKE)
    _disabled = torch._C._disabled_torch_dispatch_impl
    _get_seq = torch._C._autograd._get_sequence_nr
    _current_node = torch._C._current_autograd_node
    _graph_task = torch._C._current_graph_task_id
    _with_device = bool(torch.version.cuda or torch.version.hip or torch.backends.mps.is_built() or torch.xpu._is_compiled())


def learn_op(func: Any) -> tuple[int, int, Any, OpFacts]:
    """Ask an op's schema, and keep the answer on the op."""
    global _next_op
    facts = OpFacts(func)
    _next_op += 1
    known = (_next_op, facts.flag, func._op if hasattr(func, "_op") else func, facts)
    try:
        func._repro_audit = known
    except AttributeError:
        pass
    return known


class _Known:
    """Stands for an op within the handler: what is known of it, with another way to call it."""

    __slots__ = ("_repro_audit",)

    def __init__(self, known: tuple[int, int, Any, OpFacts]) -> None:
        self._repro_audit = known


#: Of a tensor: dtype (and layout), shape, stride if not contiguous, device.
_Meta = tuple[str, tuple[int, ...], "tuple[int, ...] | None", str]


class Handler(NamedTuple):
    """The handler of one thread, and what the other probes tell it."""

    dispatch: Callable[..., Any]
    begin_backward: Callable[[int], None]
    begin_step: Callable[[int, bool], None]
    end_step: Callable[[], None]
    enter_module: Callable[[Any], None]
    leave_module: Callable[[Any], None]
    name_leaf: Callable[[Any], tuple[str, int]]
    producer_of: Callable[[Any], int]
    begin_graph: Callable[[list[Any], Iterable[int]], None]
    end_graph: Callable[[Any], None]


def make_handler(lane: Lane, torch: Any, state_of: Callable[[Any, Any], tuple[str, int] | None], depth: int = 1) -> Handler:
    """Build the `__torch_dispatch__` of one thread.

    `state_of(args, kwargs)` names and digests the stream that an op draws from, None if it draws from none; `depth` is the number of
    frames between the handler and whoever called the op.
    """
    sites = lane.sites
    places, learn, define_site = sites.places, sites.learn, sites.define_site

    n, buffer, off, end = lane.last, lane.buffer, lane.offset, lane.end
    sigs: dict[Any, tuple[int, Any, Any]] = {}
    number_sigs: dict[Any, int] = {}
    number_ids: dict[tuple[float, ...] | str, int] = {}
    last_seq = _get_seq()
    phase = SETUP
    outer_phase = FORWARD
    engine_site = 0
    closure_site = 0
    step_site = 0
    deferred = digest.Deferred(torch)
    deferring = bool(lane.deferring)  # of the CPU's tensors too
    fresh: list[tuple[int, Any]] = []  # of the op that runs: digests that are not read yet, and which of its tensors they are of
    leaves = Leaves(lane)
    modules = ModulePaths(lane, leaves)
    measures = Measures(lane, torch)
    unwritten: set[int] = set()  # the records that allocated memory and left it as it was
    seen_leaves: dict[int, tuple[int, Any, int]] = {}  # gradients of a leaf, which it was and who wrote it last, digest or version
    unseen: dict[int, bool] = {}  # leaves that are looked at no longer
    running: list[tuple[int, int, int]] = []  # modules whose call runs: number and site of the one around it, id
    module = 0
    module_site = 0  # where the current module was called, once an op had to ask
    where = 0
    graph: tuple[list[int], list[Any], int] | None = None  # of compiled code that runs: what made its inputs, those it writes, the site

    # At each call a signal handler of the script's can run, draw numbers, and raise. A record's place is therefore taken and filled with no
    # call between the two: what was not filled would end the trace, and what was not taken would shift it.

    def roll() -> None:
        """Go on in the next segment."""
        nonlocal n, buffer, off, end
        buffer, off, end, first = lane.writer.next_segment(n)
        n = first - 1

    def emit(sig: int, digest_: int, site: int, rows: int = 0) -> int:
        nonlocal n, off
        if off == end:
            roll()
        n = number_ = n + 1
        at = off
        off = at + RECORD_SIZE
        pack(buffer, at, digest_, 0, site, 0, rows & 0xFFFFFFFF, rows >> 32, 0, where, sig)
        return number_

    def number() -> int:
        return n

    def later(tensor: Any, which: int = 0) -> int:
        """The digest of a tensor on a device is put into the record when it is read; 0 until then."""
        found = deferred.sum_of(tensor)
        if found is not None:
            fresh.append((which, found))
        return 0

    def keep_places(position: int, memory: Any, offset: int) -> None:
        """Remember where the digests of the record that was written belong."""
        for which, found in fresh:
            if which == _HANDED:
                watch_again(found)
            elif which == position:
                deferred.wait_for(found, memory, offset)

    def watch_again(storage: Any) -> None:
        """Go on looking at memory that was handed out, behind the op that may have written it."""
        written = getattr(storage, "_repro_audit", None)
        if written is not None:
            handed = storage._repro_audit_handed
            handed.number, handed.digest = written, content_of(storage)
            del storage._repro_audit

    def tell_captured() -> None:
        deferred.read()
        if deferred.captured:
            lane.line({"k": "lost", "what": "results within a CUDA graph", "count": deferred.captured})

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

    def external(tensor: Any, site: int) -> int:
        try:
            storage = tensor.untyped_storage()
        except Exception as error:  # sparse, opaque and wrapper tensors have no storage; each says so in its own way
            if interrupts(error):
                raise
            return 0
        handed = getattr(storage, "_repro_audit_handed", None)
        if handed is not None:
            content = content_of(storage)
            fresh.append((_HANDED, storage))  # the op that runs may write it
            if handed.number and handed.digest == content:
                return int(handed.number)
            handed.digest = content
        try:
            shape = meta(tensor)
            value, rows = digest.of_tensor(tensor), digest.of_rows(tensor) if tensor.dim() else 0
        except Exception as error:  # as in `unusual`
            if interrupts(error):
                raise
            return 0
        changed = handed is not None and handed.number > 0  # it was written by an op or read by one, and holds something else now
        key = ("changed" if changed else "external", shape, graph is None)
        known = sigs.get(key)
        if known is None:
            said = {"args": CHANGED} if changed else {}
            if graph is not None:
                said["op"] = COMPILED
            known = sigs[key] = (lane.define("sig", {"kind": "external", "out": [shape], **said}), None, False)
        number_ = emit(known[0], value, site, rows)
        came = getattr(storage, "_repro_audit_came", None)
        if came is not None and came[2] == lane.base:
            lane.line({"k": "came", "at": number_, "function": came[0], **({"site": came[1]} if came[1] else {})})
        if lane.met_external is not None:
            lane.met_external(number_, tensor)
        if handed is not None:
            handed.number = number_
            return number_
        try:
            storage._repro_audit = number_
        except Exception as error:  # a storage type without attributes: the tensor stays external
            if interrupts(error):
                raise
        return number_

    def meta(tensor: Any) -> _Meta:
        if tensor.is_nested:
            return "nested " + str(tensor.dtype)[6:], (), None, str(tensor.device)
        strided = tensor.layout is _strided
        stride = None if not strided or tensor.is_contiguous() else tuple(map(int, tensor.stride()))
        layout = "" if strided else str(tensor.layout)[5:]
        return str(tensor.dtype)[6:] + layout, tuple(map(int, tensor.shape)), stride, str(tensor.device)

    def keep_numbers(floats: tuple[float, ...]) -> int:
        """Number of a tuple of floats.

        They change from step to step (a learning rate, Adam's corrections), so they are kept apart from the sig, in binary. A nan is never
        found again, because its hash is its identity; that costs a few bytes. Zeros are found by their text, because -0.0 equals 0.0.
        """
        key: Any = repr(floats) if 0.0 in floats else floats
        found = number_ids.get(key)
        if found is None:
            if len(number_ids) > _INTERNED_LIMIT:
                number_ids.clear()  # numbering goes on; equal tuples may then have two numbers
            found = number_ids[key] = lane.writer.numbers(floats)
        return found

    def readable(value: Any) -> object:
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, (tuple, list)):
            return [readable(part) for part in value]
        return str(value)

    def plain_key(value: Any) -> Any:
        """A hashable stand-in for a non-tensor argument that is the same in every run and keeps nothing of the user's alive."""
        c = value.__class__
        if c in _plain_classes or value is None:
            return value
        if c is list or c is tuple or c is _Size:
            return tuple([plain_key(part) for part in value])
        if c is float or c is complex:
            return repr(value)  # within a list: a nan as a key would never be found again
        if isinstance(value, (int, str)):
            return value + 0 if isinstance(value, int) else str(value)
        return c.__name__

    def inputs_of(value: Any, site: int, producers: list[int], key: list[Any], floats: list[float]) -> None:
        """Take apart one argument of an op: a tensor adds its producer, a float itself, everything else adds to the key."""
        c = value.__class__
        if c is _Tensor or c is _Parameter or isinstance(value, _Tensor):
            try:
                producers.append(value.untyped_storage()._repro_audit)
            except Exception as error:  # no storage, or a storage nobody has written under our eyes
                if interrupts(error):
                    raise
                producers.append(external(value, site))
        elif c is list or c is tuple:
            if value and isinstance(value[0], (_Tensor, list, tuple, type(None))):
                for part in value:
                    inputs_of(part, site, producers, key, floats)
                key.append(len(value))
            else:
                key.append(plain_key(value))
        elif c is dict:
            for name, part in value.items():
                key.append(name)
                inputs_of(part, site, producers, key, floats)
        elif c is float:
            floats.append(value)
        else:
            key.append(plain_key(value))

    def producer_of(tensor: Any) -> int:
        """Number of the record that last wrote a tensor's storage; 0 for an external tensor, which is not digested."""
        if is_another_modes(tensor):  # what it wraps has the history
            return max([producer_of(part) for part in digest.parts_of(tensor)], default=0)
        storage: Any = None
        try:
            storage = tensor.untyped_storage()
            number_: int = storage._repro_audit
        except Exception as error:  # no storage, or one that nobody has written under our eyes
            if interrupts(error):
                raise
            handed = getattr(storage, "_repro_audit_handed", None) if storage is not None else None
            if handed is None:
                return 0
            fresh.append((_HANDED, storage))
            number_ = handed.number
        return number_

    def outputs_in(value: Any, found: list[Any]) -> None:
        if isinstance(value, _Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            for part in value:
                outputs_in(part, found)

    def slow(call: Any, op: int, facts: OpFacts, args: Any, kwargs: Any, seq: int, site: int) -> Any:
        """Any op: several outputs, lists of tensors, randomness, undeclared writes, higher-order ops."""
        if _asked(args) or any(a.__class__ is list and _asked(a) for a in args):  # classes with only a `__torch_function__`
            return out_of_sight(lambda seen: slow(seen, op, facts, args, kwargs, seq, site), call)
        if facts.collective:
            return collective(call, op, facts, args, kwargs, site)
        producers: list[int] = []
        key: list[Any] = []
        floats: list[float] = []
        for position, a in enumerate(args):
            if not position and facts.overwrites:
                producers.append(producer_of(a))
                continue
            inputs_of(a, site, producers, key, floats)
        if kwargs:
            for name, a in kwargs.items():
                key.append(name)
                if name in facts.writes:  # out=: what was in it before is no input
                    producer_of(a)
                    continue
                inputs_of(a, site, producers, key, floats)
        if facts.random and _fake_mode() is None and (drawn := state_of(args, kwargs)) is not None:
            stream, state = drawn
            emit(lane.sig("draw", stream=stream, function=facts.name), state, site)
        measured = facts.measured if phase <= FORWARD and facts.measured and measures.due(facts.name, site) else None
        before = measures.before(measured, args) if measured else None
        out = call(*args, **kwargs) if kwargs else call(*args)
        found: list[Any] = []
        outputs_in(out, found)
        returned = len(found)
        if any(is_another_modes(tensor) for tensor in found):
            return out
        for place in facts.writes:
            if isinstance(place, int):
                written = args[place] if place < len(args) else None
            else:
                written = kwargs.get(place) if kwargs else None
            parts: list[Any] = []
            outputs_in(written, parts)
            found.extend([part for part in parts if not any(part is other for other in found)])
        digests: list[int]
        try:
            shapes = [(t.shape, t.dtype, t.is_contiguous() or t.stride(), t.get_device(), t.is_meta) for t in found]
            sig_key = (op, tuple(key), tuple(shapes))
            known = sigs.get(sig_key) or define_slow(facts, found, returned, sig_key)
            sig, readers, _ = known
            if later in readers:
                some = len(readers) <= MORE_LIMIT
                digests = [
                    0 if read is None else read(tensor) if read is not later else later(tensor, k) if some else digest.of_tensor(tensor)
                    for k, (read, tensor) in enumerate(zip(readers, found, strict=True))
                ]
            else:
                digests = [0 if read is None else read(tensor) for read, tensor in zip(readers, found, strict=True)]
        except Exception as error:  # sparse, nested and other tensors that refuse one of these questions
            if interrupts(error):
                raise
            sig, digests = unusual_outputs(facts, found, returned, key)
        if not found and out is not None:
            # .item() and its like: a value that the program may branch on. What is packed of memory that nobody has written holds anything.
            digests.append(0 if unwritten and not unwritten.isdisjoint(producers) else digest.of_value(out))
        cut = 0 if seq or phase > FORWARD or not requires_gradient(args) else _CUT
        numbers = keep_numbers(tuple(floats)) if floats else 0
        first = put(sig, digests, producers, numbers, seq, site, where | cut, () if facts.shares else found)
        if facts.empty:
            keep_unwritten(first)
        if measured:
            measures.after(measured, call, args, kwargs, out, before)
        return out

    def put(sig: int, digests: list[int], producers: list[int], numbers: int, seq: int, site: int, flags: int, made: Iterable[Any]) -> int:
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
        for k in range(more + 1):
            p0, p1, p2 = producers[3 * k : 3 * k + 3]
            if k:
                pack(records, k * RECORD_SIZE, digests[k], 0, 0, 0, p0, p1, p2, 0, MORE)
            else:
                pack(records, 0, digests[0], seq, site, numbers, p0, p1, p2, flags | more, sig)
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

    @digest.unseen
    def begin_graph(inputs: list[Any], written: Iterable[int]) -> None:
        """Compiled code is about to run, see `probes/compiled.py`; it empties the list, so that memory is freed early."""
        nonlocal graph
        found: list[Any] = []
        outputs_in(inputs, found)
        site = place_of_graph(_getframe())
        producers: list[int] = []
        inputs_of(found, site, producers, [], [])
        graph = producers, [inputs[place] for place in written], site

    @digest.unseen
    def end_graph(out: Any) -> None:
        """Record what compiled code made of its inputs, and which of them it wrote, as one op."""
        nonlocal graph
        if graph is None:
            return
        (producers, found, site), graph = graph, None
        outputs_in(out, found)
        found = [tensor for k, tensor in enumerate(found) if not any(tensor is other for other in found[:k])]
        shapes = [meta(tensor) for tensor in found]
        known = sigs.get(what := ("graph", tuple(shapes)))
        if known is None:
            known = sigs[what] = (lane.define("sig", {"kind": "op", "op": COMPILED, "out": shapes, "args": []}), None, False)
        some = len(found) <= MORE_LIMIT
        digests = [later(t, k) if some and (deferring or not t.is_cpu) else digest.of_tensor(t) for k, t in enumerate(found)]
        put(known[0], digests, producers, 0, 0, site, where, found)

    def place_of_graph(frame: Any) -> int:
        nonlocal phase, where
        if step_site:
            return step_site
        if _graph_task() >= 0:
            phase = BACKWARD
            where = _BACKWARD
            return walk(frame) or engine_site
        if phase == BACKWARD:
            phase = outer_phase
            where = module << 16 | phase << 8
        return walk(frame)

    def is_another_modes(out: Any) -> bool:
        """Whether a mode below ours made a tensor of its own of it, which has no values, or wraps what has its own history."""
        c = out.__class__
        return c is not _Tensor and c is not _Parameter and isinstance(out, _Tensor) and c.__torch_dispatch__ is not _disabled

    def out_of_sight(run: Callable[[Any], Any], call: Any) -> Any:
        """`run(call)`, such that no `__torch_function__` of the user's sees what we ask of tensors, and that we call the op a second time.

        What a kernel written in Python does within the op is seen as ever, where torch has a way to go past one function only (2.13).
        """
        hidden = _Hidden()

        def seen(*args: Any, **kwargs: Any) -> Any:
            if _past_one is None:
                return call(*args, **kwargs)
            hidden.__exit__(None, None, None)
            try:
                return _past_one(call, (), args, kwargs)
            finally:
                hidden.__enter__()

        hidden.__enter__()
        try:
            return run(seen)
        finally:
            hidden.__exit__(None, None, None)

    def requires_gradient(args: Any) -> bool:
        """Whether any of an op's tensors does; asked where no node was made."""
        for a in args:
            if isinstance(a, _Tensor):
                if a.requires_grad:
                    return True
            elif (a.__class__ is list or a.__class__ is tuple) and a and isinstance(a[0], _Tensor) and requires_gradient(a):
                return True
        return False

    def collective(call: Any, op: int, facts: OpFacts, args: Any, kwargs: Any, site: int) -> Any:
        """An op between ranks: recorded without values; the tensors that it was given have no history afterwards.

        Those that it gives are in flight until they are waited for: till then it is what made them, and nobody reads them.
        """
        nonlocal n, off
        given: list[Any] = []
        outputs_in([args, list((kwargs or {}).values())], given)
        producers = [producer_of(tensor) for tensor in given][: 3 * (MORE_LIMIT + 1)]
        out = call(*args, **kwargs) if kwargs else call(*args)
        made: list[Any] = []
        outputs_in(out, made)
        given += made
        for tensor in given:
            try:
                del tensor.untyped_storage()._repro_audit
            except Exception as error:  # no storage, or one without a history
                if interrupts(error):
                    raise
        sig = sig_of(facts, [meta(tensor) for tensor in given], None)
        more = max(len(producers) - 1, 0) // 3
        producers += [0] * (3 * (more + 1) - len(producers))
        size = (more + 1) * RECORD_SIZE
        records = bytearray(size)
        for k in range(more + 1):
            p0, p1, p2 = producers[3 * k : 3 * k + 3]
            pack(records, k * RECORD_SIZE, 0, 0, 0 if k else site, 0, p0, p1, p2, 0 if k else where | more, MORE if k else sig)
        if off + size > end:  # all of them lie in one segment
            roll()
        n += more + 1
        at = off
        off = at + size
        buffer[at:off] = records
        if facts.in_flight:
            for tensor in [part for one in made for part in (digest.parts_of(one) if is_another_modes(one) else (one,))]:
                try:
                    tensor.untyped_storage()._repro_audit = n - more
                except Exception as error:  # as above
                    if interrupts(error):
                        raise
        return out

    def keep_unwritten(number_: int) -> None:
        """Remember a record that only allocated; of very many, the last: what is packed was allocated shortly before."""
        if len(unwritten) > _INTERNED_LIMIT:
            unwritten.clear()
        unwritten.add(number_)

    def sig_of(facts: OpFacts, metas: list[_Meta], key: Any) -> int:
        """Number of the sig of an op whose outputs had to be asked one by one."""
        what = ("asked", facts.name, tuple(metas), key)
        known = sigs.get(what)
        if known is None:
            sig = lane.define("sig", {"kind": "op", "op": facts.name, "out": metas, "args": readable(key), **said_of(facts)})
            known = sigs[what] = (sig, None, False)
        return known[0]

    def said_of(facts: OpFacts) -> dict[str, object]:
        """What a reader must know of an op beside what is compared."""
        return {"schema": facts.schema, "exact": True} if facts.exact else {"schema": facts.schema}

    def unusual(facts: OpFacts, out: Any, key: Any) -> tuple[int, int]:
        """Sig and digest of an output that does not answer like a dense tensor; never raises."""
        sig, digests = unusual_outputs(facts, [out], 1, key)
        return sig, digests[0]

    def unusual_outputs(facts: OpFacts, found: list[Any], returned: int, key: Any) -> tuple[int, list[int]]:
        """Sig and digests of outputs of which some do not answer like dense tensors; never raises."""
        metas: list[_Meta] = []
        digests = []
        for position, tensor in enumerate(found):
            try:
                metas.append(meta(tensor))
                digests.append(0 if unread(facts, position, returned) else digest.of_tensor(tensor))
            except Exception as error:  # a tensor without readable memory, a wrapper, something that is no tensor
                if interrupts(error):
                    raise
                metas[position:] = [(type(tensor).__name__, (), None, "")]
                digests.append(0)
        return sig_of(facts, metas, plain_key(key)), digests

    def define_number(facts: OpFacts, out: Any) -> int:
        kind = out.__class__
        sig = number_sigs[kind] = lane.define(
            "sig", {"kind": "op", "op": facts.name, "out": [[kind.__name__, [], None, ""]], **said_of(facts)}
        )
        return sig

    def define_op(facts: OpFacts, out: Any, key: Any) -> tuple[int, Any, Any]:
        """Give a number to a combination of op and output met for the first time.

        With it goes how to read the output and whether from a copy or, where it is not read as it lies, how it is measured, if it is.
        """
        if len(sigs) > _INTERNED_LIMIT:
            sigs.clear()
        shape = meta(out)
        sig = lane.define("sig", {"kind": "op", "op": facts.name, "out": [shape], "args": readable(key[4]), **said_of(facts)})
        measured = by_result(facts.name, shape[0])
        known = sigs[key] = (sig, *((None, measured) if measured else (None, False) if deferring else _way_to_read(out)))
        return known

    def define_slow(facts: OpFacts, found: list[Any], returned: int, key: Any) -> tuple[int, Any, Any]:
        """The same for an op with any number of outputs; its second part is a digesting function for each, None where unread."""
        if len(sigs) > _INTERNED_LIMIT:
            sigs.clear()
        sig = lane.define(
            "sig", {"kind": "op", "op": facts.name, "out": [meta(t) for t in found], "args": readable(key[1]), **said_of(facts)}
        )
        readers = [
            None if unread(facts, position, returned) else later if deferring or not tensor.is_cpu else _reader(tensor)
            for position, tensor in enumerate(found)
        ]
        known = sigs[key] = (sig, readers, False)
        return known

    def unread(facts: OpFacts, position: int, returned: int) -> bool:
        return facts.shares or (facts.empty and position < returned) or position in facts.workspaces

    def dispatch(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        nonlocal n, off, last_seq, phase, where
        site = 0
        try:
            try:
                op, flag, call, facts = func._repro_audit
            except AttributeError:
                op, flag, call, facts = learn_op(func)
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
                return out_of_sight(lambda seen: dispatch(mode, _Known((op, flag, seen, facts)), (), args, kwargs), call)
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
                        where, seq = leaf_of(node)
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
                return slow(call, op, facts, args, kwargs, seq, site)
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
                        return slow(call, op, facts, args, kwargs, seq, site)
                    k += 1
                elif c is int or c is bool or a is None:
                    key = (a,) if key is None else (*key, a)
                elif c is float:
                    floats = (a,) if floats is None else (*floats, a)
                elif c is list and (not a or a[0].__class__ is int):
                    key = (tuple(a),) if key is None else (*key, tuple(a))
                else:
                    return slow(call, op, facts, args, kwargs, seq, site)
            if kwargs:
                for name, a in kwargs.items():
                    c = a.__class__
                    if c is float:
                        floats = (a,) if floats is None else (*floats, a)
                    elif a is None or c in _plain_classes:
                        key = (name, a) if key is None else (*key, name, a)
                    else:
                        return slow(call, op, facts, args, kwargs, seq, site)
                out = call(*args, **kwargs)
            else:
                out = call(*args)
            # what came out
            c = out.__class__
            if c is not _Tensor and (c not in _numbers if flag == NUMBER else is_another_modes(out)):
                return out
            cut = measured = written = None
            if not seq and phase <= FORWARD and first is not None and requires_gradient(args):
                cut = True
            try:
                if flag == NUMBER:
                    # .item() and its like: a value that the program may branch on
                    sig = number_sigs.get(c) or define_number(facts, out)
                    try:
                        h = _x3(_pack_number(out))
                    except (struct.error, TypeError) as error:  # complex, or an integer beyond 64 bits
                        if interrupts(error):
                            raise
                        h = _x3(repr(out).encode())
                else:
                    shape = (op, out.shape, out.dtype, out.is_contiguous() or out.stride(), key)
                    if _with_device:
                        shape = (*shape, out.get_device())  # type: ignore[assignment]  # one longer
                    known = sigs.get(shape)
                    if known is None:
                        known = define_op(facts, out, shape)
                    sig, read, copied = known
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
                                sig, h = unusual(facts, out, key)
                    else:
                        if flag == EMPTY:
                            written = out.untyped_storage()
                        h = 0
            except Exception as error:  # sparse, nested and other tensors that refuse one of these questions
                if interrupts(error):
                    raise
                sig, h = unusual(facts, out, key)
            numbers = 0 if floats is None else number_ids.get(floats) or keep_numbers(floats)
            if off == end:
                roll()
            n += 1
            at = off
            off = at + RECORD_SIZE
            if written is not None:
                written._repro_audit = n
            pack(buffer, at, h, seq, site, numbers, p0, p1, p2, where | _CUT if cut else where, sig)
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
                written_by = writers_of_what_it_writes(facts, args, kwargs or {})
                lane.line({"k": "interrupted", "op": facts.name, "at": n, "site": site, "written": written_by})
            hide_us(error)
            fresh.clear()
            if step_site:
                look_for_the_step()
            raise

    @digest.unseen
    def writers_of_what_it_writes(facts: OpFacts, args: Any, kwargs: Any) -> list[int]:
        """The records that last wrote what an op writes into."""
        tensors: list[Any] = []
        outputs_in([value for k, value in (*enumerate(args), *kwargs.items()) if k in facts.writes], tensors)
        return [producer_of(tensor) for tensor in tensors]

    def look_for_the_step() -> None:
        """An op failed within a step, which may end by it: from now on the stack is asked, op by op."""
        nonlocal step_site, closure_site
        closure_site, step_site = step_site, 0

    def leaf_of(node: Any) -> tuple[int, int]:
        """`where` and `seq` of an op that accumulates a leaf's gradient: the leaf's number, and the record that last wrote the leaf."""
        try:
            variable = node.variable
            if variable.__class__ is not _Tensor and variable.__class__ is not _Parameter:
                with digest.Unseen():
                    number_ = leaves.number(variable)
                    return _BACKWARD | number_ << 16, producer_of(variable) if number_ else 0
            number_ = leaves.number(variable)
        except Exception as error:  # another kind of node, a variable that is gone, a name that was no name
            if interrupts(error):
                raise
            return _BACKWARD, 0
        written = producer_of(variable) if number_ else 0
        if number_ and not unseen.get(number_, False):
            look_at_leaf(number_, written, variable)
        return _BACKWARD | number_ << 16, written

    def look_at_leaf(number_: int, written: int, variable: Any) -> None:
        """Tell, once, of a leaf that has changed between two gradients though no recorded op wrote it: compiled code may, and NumPy.

        Looked at are the first gradients of each leaf, and then ever fewer.
        """
        count, before, known = seen_leaves.get(number_, (0, None, 0))
        count += 1
        if count > _LEAF_LOOKS and count & (count - 1):
            seen_leaves[number_] = count, before, known
            return
        try:
            same = id(variable), written
            now = digest.of_tensor(variable) if variable.is_cpu else variable._version
        except Exception as error:  # a leaf that cannot be read as a dense tensor
            if interrupts(error):
                raise
            unseen[number_] = True
            return
        if before == same and known != now:
            unseen[number_] = True
            lane.line({"k": "unseen-write", "at": n, "leaf": number_})
        seen_leaves[number_] = count, same, now

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
        deferred.read()
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

    lane.at_end.append(tell_captured)
    lane.emit = emit  # type: ignore[method-assign, assignment]  # see the module docstring of lane.py
    lane.number = number  # type: ignore[method-assign]  # likewise

    def name_leaf(variable: Any) -> tuple[str, int]:
        """What a leaf is called, and the number of the record that last wrote it."""
        return leaves.name(variable), producer_of(variable)

    return Handler(
        dispatch, begin_backward, begin_step, end_step, enter_module, leave_module, name_leaf, producer_of, begin_graph, end_graph
    )


def _way_to_read(tensor: Any) -> tuple[Any, bool]:
    """`(from_address, copied)`: how the bytes of tensors of this type, shape and stride are read; `(None, False)`: by `digest.of_tensor`.

    Elements that fill their memory without gaps or overlap are read as they lie, in whatever order; with gaps, from a contiguous copy.
    """
    if tensor.layout is not _strided or tensor.device.type != "cpu" or tensor.is_complex() or not tensor.nbytes:
        return None, False
    dims = [(stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1]
    expected = 1
    for stride, size in sorted(dims):
        if stride != expected:
            in_order = dims == sorted(dims, key=lambda dim: -dim[0])  # else its physical order is not that of a contiguous copy
            return (digest.array_type(tensor.nbytes).from_address, True) if in_order else (None, False)
        expected *= size
    return digest.array_type(tensor.nbytes).from_address, False


def _reader(tensor: Any) -> Callable[[Any], int]:
    """A function from tensors like this one to their digests."""
    read, copied = _way_to_read(tensor)
    if read is None or copied:
        return digest.of_tensor

    def of_dense(dense: Any) -> int:
        pointer = dense.data_ptr()
        return _x3(read(pointer)) if pointer else digest.of_tensor(dense)

    return of_dense
