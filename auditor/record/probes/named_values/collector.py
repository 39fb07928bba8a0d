"""Notes the values that names get: which objects a name leads to, and what is to be written down of them.

One `Collector` a thread; `Common` is what the threads of a process share. Never calls anything of the user's: entries are taken from dicts,
lists and `__dict__`s, attributes of objects from nowhere else. Never keeps a tensor or an array alive.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any

from auditor.record import digest
from auditor.record.core.leaves import held, parts_of
from auditor.record.probes.named_values.common import Common, Known
from auditor.record.probes.named_values.objects import Owner, fields_of, is_users
from auditor.record.probes.named_values.others import others, within
from auditor.record.probes.named_values.reading import (
    MISSING,
    attribute_of,
    digest_of,
    entry_of,
    is_leaf,
    of_complex,
    of_float,
    of_int,
    of_numbers,
    quoted,
)
from auditor.record.probes.named_values.registry import ENTRIES, FIELDS, MODULE, OBJECT, Registry
from auditor.record.probes.named_values.source import APPENDED, ASSIGNED, ATTRIBUTE, EACH, KEY, MADE_LEAF, TOUCHED, UNKNOWN, WRITTEN, Target
from auditor.record.probes.named_values.writer import MOST, Sink, put_record
from auditor.trace import NAMED_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

#: Entries of a list or dict that are looked at.
_WIDEST = 64
_DEEPEST = 3
#: Elements of a buffer that is recorded when its module gets a name; those that are not kept whole are not asked again.
_LARGEST_BUFFER = 1 << 20

#: Attributes of an array or tensor through which it is written itself.
_OF_THE_SAME_MEMORY = ("data", "real", "imag", "T", "mT", "flat", "shape")

_put_double = struct.Struct("<d").pack_into


class Collector(Registry):
    """The named values of one thread."""

    def __init__(self, common: Common, sink: Callable[[], Sink]) -> None:
        super().__init__(common, sink)
        self._lists: dict[Target, Target] = {}
        self._in_module = False  # the attribute that is touched is one of a module's

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
            if target.path:
                made = self._made_leaf(target, value, frame, variables) if target.path[-1] == MADE_LEAF else None
                if made is not None:
                    if is_leaf(made[1]):
                        self._leaf(target, made[0], made[1], made[2], frame, target.shared or len(target.path) > 1)
                    return
                self._in_module = target.root == "self" and self._reader(type(value)) == MODULE
            found = self.reached(target, value, frame, variables)
            if found is not None:
                text, reached, owner = found
                if owner is not None:
                    self.common.objects.given.add((owner.number, owner.attribute))
                if target.path and target.how in (ASSIGNED, APPENDED):
                    self._held(target if target.how == ASSIGNED else self._list_of(target), value, reached)
                self.note(target, text, reached, frame, owner)
                if target.shared:
                    self._elsewhere(target, text, reached, frame)

    def _list_of(self, target: Target) -> Target:
        """What stands for a line that assigns the list to which a target adds an entry."""
        found = self._lists.get(target)
        if found is None:
            found = self._lists[target] = Target(target.root, target.path, ASSIGNED)
            found.scope, found.file, found.line, found.loop = target.scope, target.file, target.line, target.loop
        return found

    def _held(self, target: Target, owner: Any, value: Any, depth: int = 0) -> None:
        """Remember what an attribute or entry was given: an array or tensor, or a list or dict of some."""
        reader = self._reader(type(value))
        if reader == ENTRIES and depth < _DEEPEST and len(value) <= _WIDEST:
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
        if self._known(value) is not None:
            return  # it has one name, whatever else it is called
        common, read = self.common, reader(value)
        common.callers_read = True
        found = [one[:3] for one in others(value, frame, common.plan_of, common.variables_of, self.reached, (_WIDEST, _DEEPEST))]
        found += self._attributes(value, frame)
        done: set[tuple[str, str, Owner | None]] = {(target.scope, text, None)}
        for there, path, owner in found:
            if (there, path) in common.noted and (there.scope, path, owner) not in done:
                done.add((there.scope, path, owner))
                self.write(there, path, "variable", read, value, target.line, owner)

    def _attributes(self, value: Any, frame: Any) -> list[tuple[Target, str, Owner | None]]:
        """The attribute that was given an object, if it holds it still."""
        attribute = self.common.attributes.of(value)
        if attribute is None:
            return []
        owner, there = attribute
        again = self.reached(there, owner, frame, {})
        return [(there, path, again[2]) for path in within(again[0], again[1], value, _WIDEST, _DEEPEST)] if again is not None else []

    def _first_name(self, tensor: Any, frame: Any) -> tuple[Target, str, Owner | None] | None:
        """What a tensor was called before a loop or a list gave it the name at hand.

        A caller's names are older than those of what it calls; a variable that a loop assigns has another tensor in its next turn.
        """
        common = self.common
        common.callers_read = True
        every = others(tensor, frame, common.plan_of, common.variables_of, self.reached, (_WIDEST, _DEEPEST))
        found = [one[:3] for one in sorted(every, key=lambda one: -one[3])]
        at = 1 if found and found[0][1] == found[0][0].root else 0
        found[at:at] = self._attributes(tensor, frame)
        return min(found, key=lambda one: one[0].loop is not None and one[0].root == one[1], default=None)

    def _made_leaf(self, target: Target, value: Any, frame: Any, variables: Any) -> tuple[str, Any, Owner | None] | None:
        """Path, value and owner of the tensor that a target with `MADE_LEAF` at its end may make a leaf; None if it is no tensor."""
        found = self.reached(target, value, frame, variables, target.path[:-1])
        return found if found is not None and self._reader(type(found[1])) is self._tensors is not None else None

    def reached(
        self, target: Target, value: Any, frame: Any, variables: Any, path: tuple[tuple[int, Any], ...] | None = None
    ) -> tuple[str, Any, Owner | None] | None:
        """Path, value and owner of what a target with attributes or keys touches; None if that is nothing to record.

        `path`: that of the target, or its beginning.
        """
        text = target.root
        owner: Owner | None = None
        for kind, step in target.path if path is None else path:
            found = self._reader(type(value))
            if callable(found):  # a number, an array, a tensor: what is touched is a part of it
                return (text, value, owner) if kind != ATTRIBUTE or step in _OF_THE_SAME_MEMORY else None
            if kind == ATTRIBUTE:
                if found in (OBJECT, MODULE) and (number := self.common.objects.number(value)):
                    owner = Owner(number, len(text), step)
                value = attribute_of(value, step)
                text = f"{text}.{step}"
            else:
                if kind == UNKNOWN:
                    return None
                key = step if kind == KEY else variables.get(step, frame.f_globals.get(step, MISSING))
                if type(key) not in (str, int):
                    return None
                if found == MODULE:
                    name, value = entry_of(value, key)
                    text = f"{text}.{name}"
                    if value is MISSING:
                        return None
                    continue
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
            made = self._made_leaf(target, value, frame, variables) if target.path[-1] == MADE_LEAF else None
            if made is not None:
                return made[0], id(made[1]), int(is_leaf(made[1]))
            found = self.reached(target, value, frame, variables)
            text, value = found[:2] if found is not None else (text, MISSING)
        if value is MISSING:
            return None
        reader = self._reader(type(value))
        if not callable(reader):
            return text, id(value), len(value) if reader == ENTRIES else 0
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
                known = self._known(value)
                if known is None and is_leaf(value):
                    written = target.how in (WRITTEN, TOUCHED) and (target.shared or bool(target.path))
                    known = self._leaf(target, text, value, owner, frame, depth == 0 and (written or target.how == EACH))
                    known = known if (known.text, known.target) != (text, target) else None
                if known is not None and known.text != text and (depth or target.how == APPENDED):
                    common.aliases[id(value)] = text, target, owner  # put into a list or dict
                    if (known.target.scope, known.text) in common.passed_on:
                        self._registered_anew(value, text, known.kind, target, owner)
                    return
                if known is not None and (target.how != ASSIGNED or known.kind == "parameter") and depth == 0:
                    if target.how == EACH or (target.how == ASSIGNED and known.text != text):
                        return  # another name for a parameter
                    self._write(known, reader(value), value, target.line)
                    return
                key = common.of_buffers.get(id(value)) if target.how in (WRITTEN, TOUCHED) else None
                buffer = common.buffers.get(key) if key is not None else None
                if key is not None and buffer is not None and known is None and attribute_of(buffer.reference(), key[1]) is value:
                    buffer.seen = 0
                    self._buffer(key, buffer, value, target.line, sys.maxsize)
                    return
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
        elif reader == ENTRIES:
            many = of_numbers(value, _WIDEST)
            if many is not None:
                self.write(target, text, "variable", many, value, target.line, owner)
            elif depth < _DEEPEST and len(value) <= _WIDEST:
                entries = value.items() if isinstance(value, dict) else enumerate(value)
                for key, entry in list(entries):
                    if type(key) in (str, int):
                        self.note(target, f"{text}[{quoted(key)}]", entry, frame, owner, depth + 1)
        elif reader == FIELDS:
            for name, entry in zip(fields_of(type(value)), tuple.__iter__(value)):  # noqa: B905  # `strict` is of the same length anyway
                self.note(target, f"{text}.{name}", entry, frame, owner, depth + 1)
        elif reader == MODULE:
            self._module(target, text, value, frame)
            self._named_object(target, text, value, owner)
        elif reader == OBJECT:
            self._object(target, text, value, owner, frame)

    def _object(self, target: Target, text: str, value: Any, owner: Owner | None, frame: Any) -> None:
        """Remember that an object of the user's has a name; record what code that is not the user's gave it: a dataclass's, or a copy's."""
        self._in_module = False
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

    def _module(self, target: Target, text: str, module: Any, frame: Any) -> None:
        """Name the parameters and buffers of a module and record those that are new under this name, or were written."""
        if target.how == EACH and self._is_of_module(frame):
            return  # `for m in self.modules()`: whoever is given the module names them all
        inside = self._in_module and text.startswith("self.")  # of a larger one, which will give them their names
        for path, part in parts_of(module, text):
            if part is not module and not inside:
                self._named_object(target, path, part, None)
            for last, parameter in held(part, "_parameters"):
                name = f"{path}.{last}"
                known = self._known(parameter)
                if known is None or (not inside and self._gives_way(known, target, name, frame)):
                    known = self._register(parameter, name, "parameter", target)
                    if inside:
                        continue
                    if self.common.start is not None:
                        self.common.start.begin(name, parameter, None)
                elif target.how != WRITTEN:
                    continue
                read = self._reader(type(parameter))
                if callable(read):
                    self._write(known, read(parameter), parameter, target.line)
            for last, buffer in held(part, "_buffers"):
                key, name = (id(part), last), f"{path}.{last}"
                known = self.common.buffers.get(key)
                known = known if known is not None and known.reference() is part else None
                if known is None or (not inside and self._gives_way(known, target, name, frame)):
                    known = self._register_buffer(part, key, name, target)
                    if not inside:
                        if self.common.start is not None:
                            self.common.start.begin(name, buffer, None)
                        self._buffer(key, known, buffer, target.line, _LARGEST_BUFFER)

    def _gives_way(self, known: Known, target: Target, text: str, frame: Any) -> bool:
        """Whether a name of a parameter gives way to another: to the path under what holds its module now, if it was only in passing."""
        old = known.target
        levels, before = text.count("."), known.text.count(".")
        if known.text.startswith("self."):
            return levels >= before and (target.root, target.scope) != (old.root, old.scope)
        if target.how not in (ASSIGNED, APPENDED) or levels < before or target.root == old.root:
            return False
        ended = old.scope not in ("<module>", target.scope) and frame is not None and not self._runs(old.scope, frame)
        if levels == before:
            return old.how == EACH and ended
        return ended or (old.loop is not None and old.loop is not target.loop)

    def _is_of_module(self, frame: Any) -> bool:
        """Whether a frame is of a method of a module of torch."""
        plan = self.common.plan_of(frame.f_code) if frame is not None and frame.f_code.co_varnames[:1] == ("self",) else None
        return plan is not None and self._reader(type(self.common.variables_of(plan, frame).get("self", None))) == MODULE

    def _runs(self, scope: str, frame: Any) -> bool:
        """Whether a function of this name has called what runs in a frame."""
        while frame is not None:
            plan = self.common.plan_of(frame.f_code)
            if plan is not None and plan.scope.name == scope:
                return True
            frame = frame.f_back
        return False

    def _leaf(self, target: Target, text: str, tensor: Any, owner: Owner | None, frame: Any, elsewhere: bool) -> Known:
        """Name a leaf that may have none yet; `elsewhere`: it may well have had another name before."""
        known = self._known(tensor)
        if known is None:
            first = self._first_name(tensor, frame) if elsewhere and frame is not None else None
            target, text, owner = first or (target, text, owner)
            known = self._register(tensor, text, "variable", target, owner)
        return known
