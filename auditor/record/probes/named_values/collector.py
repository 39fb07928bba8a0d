"""Notes the values that names get: which objects a name leads to, and what is to be written down of them.

One `Collector` a thread; `Common` is what the threads of a process share. Never calls anything of the user's: entries are taken from dicts,
lists and `__dict__`s, attributes of objects from nowhere else. Never keeps a tensor or an array alive.
"""

from __future__ import annotations

import struct
import sys
import weakref
from typing import TYPE_CHECKING, Any

from auditor.record import digest
from auditor.record.probes.leaves import held, parts_of
from auditor.record.probes.named_values.common import Common, Known
from auditor.record.probes.named_values.objects import Owner, fields_of, is_users
from auditor.record.probes.named_values.others import others, within
from auditor.record.probes.named_values.reading import (
    MISSING,
    Tensors,
    array,
    attribute_of,
    digest_of,
    is_leaf,
    of_complex,
    of_float,
    of_int,
    of_numbers,
    quoted,
)
from auditor.record.probes.named_values.source import APPENDED, ASSIGNED, ATTRIBUTE, EACH, KEY, UNKNOWN, WRITTEN, Target
from auditor.record.probes.named_values.writer import MOST, Sink, Writer, put_record
from auditor.trace import NAMED_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

#: Entries of a list or dict that are looked at.
_WIDEST = 64
_DEEPEST = 3

#: Attributes of an array or tensor through which it is written itself.
_OF_THE_SAME_MEMORY = ("data", "real", "imag", "T", "mT", "flat", "shape")

_put_double = struct.Struct("<d").pack_into
_NOTHING, _ENTRIES, _MODULE, _OBJECT, _FIELDS = range(5)


class Collector(Writer):
    """The named values of one thread."""

    def __init__(self, common: Common, sink: Callable[[], Sink]) -> None:
        super().__init__(common, sink)
        self._readers: dict[type, Any] = {
            float: of_float, int: of_int, complex: of_complex,
            bool: _NOTHING, str: _NOTHING, type(None): _NOTHING, list: _ENTRIES, tuple: _ENTRIES, dict: _ENTRIES,
        }  # fmt: skip

    # What a target is

    def touch_all(self, targets: tuple[Target, ...], frame: Any, variables: Any) -> None:
        """As `touch` for each, for variables without anything behind them: arrays and floats of a dtype and shape as before go quickly."""
        for target in targets:
            entry = target.entry
            if entry is None or entry[0] is not self._ids:
                self.touch(target, frame, variables)
                continue
            try:
                value = variables[target.root]
            except KeyError:
                self.touch(target, frame, variables)
                continue
            _, kind, dtype, shape, number, size = entry
            values = self._values
            at = values.used
            end = at + size
            if type(value) is not kind or end > values.room or end > self._freely:
                self.touch(target, frame, variables)
                continue
            if kind is float:
                _put_double(values.memory, at, value)
            elif value.dtype is dtype and value.shape == shape:
                try:
                    values.memory[at:end] = value
                except (BufferError, TypeError, ValueError):  # it does not lie in logical order, or is to go into a bytearray
                    values.memory[at:end] = value.tobytes()
            else:
                self.touch(target, frame, variables)
                continue
            values.used = (end + 7) & -8
            common = self.common
            records = self._records
            used = records.used
            if used + NAMED_SIZE > records.room and not self._has_room(records, used + NAMED_SIZE, MOST * NAMED_SIZE):
                continue
            loop = target.loop
            step = common.step if not common.by_loops else common.now if loop is None else loop.turn
            put_record(records.memory, used, number, step, next(common.order), (at >> 2) + 2)
            records.used = used + NAMED_SIZE

    def touch(self, target: Target, frame: Any, variables: Any) -> None:
        """Record what a target's name holds now."""
        if self._full:
            return
        value = variables.get(target.root, MISSING)
        if value is MISSING:
            value = frame.f_globals.get(target.root, MISSING)
            if value is MISSING:
                return
        if target.plain:
            self.note(target, target.root, value, frame)
        else:
            found = self.reached(target, value, frame, variables)
            if found is not None:
                text, reached, owner = found
                if owner is not None:
                    self.common.objects.given.add((owner.number, owner.attribute))
                if target.path and target.how == ASSIGNED:
                    self._held(target, value, reached)
                self.note(target, text, reached, frame, owner)
                if target.shared:
                    self._elsewhere(target, text, reached, frame)

    def _held(self, target: Target, owner: Any, value: Any, depth: int = 0) -> None:
        """Remember what an attribute or entry was given: an array or tensor, or a list or dict of some."""
        reader = self._reader(type(value))
        if reader == _ENTRIES and depth < _DEEPEST and len(value) <= _WIDEST:
            for entry in list(dict.values(value) if isinstance(value, dict) else value):
                self._held(target, owner, entry, depth + 1)
        elif self._is_memory(reader):
            self.common.attributes.note(target, owner, value)

    @staticmethod
    def _is_memory(reader: Any) -> bool:
        """Whether what is read so can be written in place."""
        return callable(reader) and reader not in (of_float, of_int, of_complex)

    def _elsewhere(self, target: Target, text: str, value: Any, frame: Any) -> None:
        """Record what was written in place under its other names too."""
        reader = self._reader(type(value))
        if not self._is_memory(reader):
            return
        common = self.common
        known = common.leaves.get(id(value))
        if known is not None and known.reference() is value:
            return  # it has one name, whatever else it is called
        common.callers_read = True
        found = list(others(value, frame, common.plan_of, common.variables_of, self.reached, (_WIDEST, _DEEPEST)))
        attribute = common.attributes.of(value)
        if attribute is not None:
            owner, there = attribute
            again = self.reached(there, owner, frame, {})
            if again is not None:
                found += [(there, path, again[2]) for path in within(again[0], again[1], value, _WIDEST, _DEEPEST)]
        done: set[tuple[str, str, Owner | None]] = {(target.scope, text, None)}
        for there, path, owner in found:
            if (there, path) in common.noted and (there.scope, path, owner) not in done:
                done.add((there.scope, path, owner))
                self.write(there, path, "variable", reader(value), value, target.line, owner)

    def reached(self, target: Target, value: Any, frame: Any, variables: Any) -> tuple[str, Any, Owner | None] | None:
        """Path, value and owner of what a target with attributes or keys touches; None if that is nothing to record."""
        text = target.root
        owner: Owner | None = None
        for kind, step in target.path:
            found = self._reader(type(value))
            if callable(found):  # a number, an array, a tensor: what is touched is a part of it
                if found is self._tensors and kind == ATTRIBUTE and step == "requires_grad" and is_leaf(value):
                    self._leaf(target, text, value)
                return (text, value, owner) if kind != ATTRIBUTE or step in _OF_THE_SAME_MEMORY else None
            if kind == ATTRIBUTE:
                if found in (_OBJECT, _MODULE) and (number := self.common.objects.number(value)):
                    owner = Owner(number, len(text), step)
                value = attribute_of(value, step)
                text = f"{text}.{step}"
            else:
                if kind == UNKNOWN:
                    return None
                key = step if kind == KEY else variables.get(step, frame.f_globals.get(step, MISSING))
                if type(key) not in (str, int):
                    return None
                if isinstance(value, dict):
                    value = dict.get(value, key, MISSING)
                elif isinstance(value, (list, tuple)) and type(key) is int and -len(value) <= key < len(value):
                    key %= len(value)
                    value = list.__getitem__(value, key) if isinstance(value, list) else tuple.__getitem__(value, key)
                else:
                    return None
                text = f"{text}[{quoted(key)}]"
            if value is MISSING:
                return None
        if target.how == APPENDED:
            if type(value) is not list or not 0 < len(value) <= _WIDEST:
                return None
            return f"{text}[{len(value) - 1}]", value[-1], owner
        return text, value, owner

    def fingerprint(self, target: Target, frame: Any, variables: Any) -> Any:
        """What tells whether a target was touched: which object it is and, where it can be written in place, what it holds."""
        value = variables.get(target.root, frame.f_globals.get(target.root, MISSING))
        text = target.root
        if value is not MISSING and target.path:
            found = self.reached(target, value, frame, variables)
            text, value = found[:2] if found is not None else (text, MISSING)
        if value is MISSING:
            return None
        reader = self._reader(type(value))
        if not callable(reader):
            return text, id(value), len(value) if reader == _ENTRIES else 0
        read = reader(value)
        if read is None:
            return None
        return text, id(value), digest.of_bytes(read[5]) if read[5] is not None else digest_of(value, self._tensors)

    def note(self, target: Target, text: str, value: Any, frame: Any = None, owner: Owner | None = None, depth: int = 0) -> None:
        """Record a value under this name, if it is one or holds some."""
        reader = self._readers.get(type(value))
        if reader is None:
            reader = self._reader(type(value))
        if callable(reader):
            common = self.common
            if reader is self._tensors:
                known = common.leaves.get(id(value))
                known = known if known is not None and known.reference() is value else None
                if known is not None and known.text != text and (depth or target.how == APPENDED):
                    common.aliases[id(value)] = text, target  # put into a list or dict
                    if (known.target.scope, known.text) in common.passed_on:
                        self._registered_anew(value, text, known.kind, target)
                    return
                if known is not None and (target.how != ASSIGNED or known.kind == "parameter") and depth == 0:
                    if target.how == EACH or (target.how == ASSIGNED and known.text != text):
                        return  # another name for a parameter
                    text, target_of, kind = known.text, known.target, known.kind
                    self.write(target_of, text, kind, reader(value), value, target.line)
                    return
                if known is None and is_leaf(value):
                    self._leaf(target, text, value)
            elif target.how == EACH and type(value) is int:
                return  # counts the rounds of a loop
            if common.start is not None and target.how in (ASSIGNED, EACH):
                value = common.start.begin(text, value, frame)
            read = reader(value)
            number = self.write(target, text, "variable", read, value, target.line, owner)
            if (
                number
                and target.simple
                and not target.shared
                and common.start is None
                and reader is not self._tensors
                and read is not None
                and read[5] is not None
            ):
                dtype = getattr(value, "dtype", None)
                if type(value) is float or (dtype is not None and dtype.isnative and len(read[5]) == value.nbytes):
                    target.entry = self._ids, type(value), dtype, read[3], number, len(read[5])
        elif reader == _ENTRIES:
            many = of_numbers(value, _WIDEST)
            if many is not None:
                self.write(target, text, "variable", many, value, target.line, owner)
            elif depth < _DEEPEST and len(value) <= _WIDEST:
                entries = value.items() if isinstance(value, dict) else enumerate(value)
                for key, entry in list(entries):
                    if type(key) in (str, int):
                        self.note(target, f"{text}[{quoted(key)}]", entry, frame, owner, depth + 1)
        elif reader == _FIELDS:
            for name, entry in zip(fields_of(type(value)), tuple.__iter__(value)):  # noqa: B905  # `strict` is of the same length anyway
                self.note(target, f"{text}.{name}", entry, frame, owner, depth + 1)
        elif reader == _MODULE:
            self._module(target, text, value)
            self._named_object(target, text, value, owner)
        elif reader == _OBJECT:
            self._object(target, text, value, owner, frame)

    def _object(self, target: Target, text: str, value: Any, owner: Owner | None, frame: Any) -> None:
        """Remember that an object of the user's has a name; record what code that is not the user's gave it: a dataclass's, or a copy's."""
        number, objects = self._named_object(target, text, value, owner), self.common.objects
        if number and not objects.is_met(number):
            for attribute, entry in objects.ungiven(number, value):
                given = objects.target(target, type(value), attribute)
                self._held(given, value, entry)
                self.note(given, f"self.{attribute}", entry, frame, Owner(number, len("self"), attribute), 1)

    def _named_object(self, target: Target, text: str, value: Any, owner: Owner | None) -> int:
        """Remember that an object of the user's has a name; its number if so."""
        if target.how not in (ASSIGNED, APPENDED) or not is_users(type(value)):
            return 0
        objects = self.common.objects
        number = objects.number(value)
        if number and objects.is_new_name(number, owner, text):
            self.define_object(target, text, number, owner)
        return number

    def _module(self, target: Target, text: str, module: Any) -> None:
        """Name the parameters of a module and record those that are new under this name, or were written."""
        inside = text.startswith("self.")  # of a larger one, which will give them their names
        for path, part in parts_of(module, text):
            if part is not module and not inside:
                self._named_object(target, path, part, None)
            for last, parameter in held(part, "_parameters"):
                name = f"{path}.{last}"
                known = self.common.leaves.get(id(parameter))
                known = known if known is not None and known.reference() is parameter else None
                if known is None or (known.text.startswith("self.") and not inside):
                    known = self._register(parameter, name, "parameter", target)
                    if inside:
                        continue
                    if self.common.start is not None:
                        self.common.start.begin(name, parameter, None)
                elif target.how != WRITTEN:
                    continue
                read = self._reader(type(parameter))
                if callable(read):
                    self.write(known.target, known.text, known.kind, read(parameter), parameter, target.line)

    def _leaf(self, target: Target, text: str, tensor: Any) -> None:
        known = self.common.leaves.get(id(tensor))
        if known is None or known.reference() is not tensor:
            self._register(tensor, text, "variable", target)

    def _register(self, tensor: Any, text: str, kind: str, target: Target) -> Known:
        common, key = self.common, id(tensor)
        leaves = common.leaves

        def gone(reference: Any) -> None:
            if key in leaves and leaves[key].reference is reference:
                del leaves[key]
                common.aliases.pop(key, None)

        known = leaves[key] = Known(weakref.ref(tensor, gone), text, kind, target)
        before = common.named.get((target.scope, text))
        if before is not None and before != key:
            old = leaves.pop(before, None)  # the name has another tensor now
            alias = common.aliases.pop(before, None)
            lives = old.reference() if old is not None else None
            if lives is not None and old is not None and alias is not None:
                common.passed_on.add((target.scope, text))
                self._registered_anew(lives, alias[0], old.kind, alias[1])
        common.named[target.scope, text] = key
        return known

    def _registered_anew(self, tensor: Any, text: str, kind: str, target: Target) -> None:
        """Name a leaf by where it lies, since its name goes from one to the next; record it."""
        self._register(tensor, text, kind, target)
        reader = self._reader(type(tensor))
        if callable(reader):
            self.write(target, text, kind, reader(tensor), tensor, target.line)

    # Gradients and steps

    def gradients(self) -> None:
        """Record the gradients of all leaves that have a name."""
        self.common.due = False
        line = self.common.due_line
        guard = digest.no_dispatch()  # noqa: F841  # works by living
        for known in list(self.common.leaves.values()):
            tensor = known.reference()
            if tensor is None:
                continue
            with sys.modules["torch"]._C.DisableTorchFunction():
                gradient = tensor.grad
            reader = self._reader(type(gradient))
            if callable(reader):
                self.write(known.target, f"{known.text}.grad", "gradient", reader(gradient), gradient, line)

    def stepped(self, optimizer: Any, line: int) -> None:
        """Record what an optimizer has updated."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                known = self.common.leaves.get(id(parameter))
                if known is not None and known.reference() is parameter:
                    reader = self._reader(type(parameter))
                    if callable(reader):
                        self.write(known.target, known.text, known.kind, reader(parameter), parameter, line)

    # Reading

    def _reader(self, kind: type) -> Any:
        """What reads values of a type, or what else they are; asked once a type."""
        found = self._readers.get(kind)
        if found is None:
            found = self._readers[kind] = self._learned(kind)
        return found

    def _learned(self, kind: type) -> Any:
        np, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if np is not None and hasattr(np, "ndarray") and hasattr(np, "generic"):
            if kind in (np.ndarray, getattr(np, "memmap", None), getattr(np, "matrix", None)):
                return lambda value: array(np, value)
            if issubclass(kind, np.number):
                return lambda value: array(np, np.asarray(value))
        if torch is not None and hasattr(torch, "Tensor") and hasattr(torch, "nn"):
            if kind in (torch.Tensor, getattr(torch.nn, "Parameter", None), getattr(torch.nn, "Buffer", None)):
                if self._tensors is None:
                    self._tensors = Tensors(torch, self.common.lose)
                return self._tensors
            if issubclass(kind, torch.nn.Module):
                return _MODULE
        if issubclass(kind, (dict, list, tuple)) and kind.__module__ in ("builtins", "collections"):
            return _ENTRIES
        if not is_users(kind):
            return _NOTHING
        return _OBJECT if not issubclass(kind, tuple) else _FIELDS if fields_of(kind) else _NOTHING
