"""Tells objects of the user's classes apart, so that `self.weight` of one layer is not taken for that of another.

Only objects of which there are few of a class, and to which weak references can be made. Never keeps an object alive, never asks one for
an attribute that it makes.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

from auditor.interruptions import interrupts
from auditor.record.callsite import is_user_code
from auditor.record.probes.named_values.reading import MISSING, attribute_of
from auditor.record.probes.named_values.source import ASSIGNED, ATTRIBUTE, Target

#: Objects of one class that get a number, names that one is remembered by, and attributes of one that are looked at.
_OBJECTS, _NAMES, _ATTRIBUTES = 64, 8, 64


class Owner(NamedTuple):
    """The object of the user's whose attribute a path leads to, innermost: its number, where in the path's text its own ends, which."""

    number: int
    at: int
    attribute: str


class Objects:
    """Numbers of objects, the names that they have, and which of their attributes the user's code gave them."""

    def __init__(self) -> None:
        self.given: set[tuple[int, str]] = set()
        self._numbers: dict[int, tuple[Any, int]] = {}
        self._of_class: dict[type, int] = {}
        self._last = 0
        self._names: dict[int, set[tuple[Owner | None, str]]] = {}
        self._met: set[int] = set()
        self._targets: dict[tuple[type, str], Target] = {}

    def number(self, value: Any) -> int:
        """Number of an object, from 1 on; 0 if it gets none."""
        key = id(value)
        found = self._numbers.get(key)
        if found is not None and found[0]() is value:
            return found[1]
        kind = type(value)
        count = self._of_class.get(kind, 0)
        if count >= _OBJECTS:
            return 0
        try:
            reference = weakref.ref(value)
        except TypeError as error:
            if interrupts(error):
                raise
            return 0
        self._of_class[kind] = count + 1
        self._last += 1
        self._numbers[key] = reference, self._last
        return self._last

    def is_new_name(self, number: int, owner: Owner | None, text: str) -> bool:
        """Whether an object is given this name for the first time."""
        names = self._names.setdefault(number, set())
        if (owner, text) in names or len(names) >= _NAMES:
            return False
        names.add((owner, text))
        return True

    def is_met(self, number: int) -> bool:
        """Whether this was asked of an object before."""
        if number in self._met:
            return True
        self._met.add(number)
        return False

    def ungiven(self, number: int, value: Any) -> Iterator[tuple[str, Any]]:
        """Attributes that lie in an object and that no code of the user's was seen to give it."""
        try:
            names = list(object.__getattribute__(value, "__dict__"))
        except AttributeError as error:
            if interrupts(error):
                raise
            names = []
        for name in names[:_ATTRIBUTES]:
            private = type(name) is not str or (name[:1] == "_" == name[-1:])  # of an enum, or of the interpreter's
            if not private and (number, name) not in self.given:
                entry = attribute_of(value, name)
                if entry is not MISSING and entry is not type(value).__dict__.get(name, MISSING):  # a class's own is one of its lines
                    yield name, entry

    def target(self, assigned: Target, kind: type, attribute: str) -> Target:
        """What stands for a line of `__init__` that gives an object its attribute; its line is that of what gave the object a name."""
        found = self._targets.get((kind, attribute))
        if found is None:
            found = self._targets[kind, attribute] = Target("self", ((ATTRIBUTE, attribute),), ASSIGNED)
            found.scope, found.file = kind.__qualname__, _file_of(kind) or assigned.file
        found.line, found.loop = assigned.line, assigned.loop
        return found


def is_users(kind: type) -> bool:
    """Whether a class is the user's own."""
    if issubclass(kind, (type, BaseException)):
        return False
    file = _file_of(kind)
    return kind.__module__ == "__main__" if file is None else is_user_code(file)


def _file_of(kind: type) -> str | None:
    """Where the module of a class lies."""
    module = sys.modules.get(kind.__module__) if type(kind.__module__) is str else None
    file = attribute_of(module, "__file__")
    return file if type(file) is str else None


def fields_of(kind: type) -> tuple[str, ...]:
    """Names of the fields of a named tuple; none of another tuple."""
    found = next((one.__dict__["_fields"] for one in kind.__mro__ if "_fields" in one.__dict__), ())
    return found if type(found) is tuple and all(type(name) is str for name in found) else ()
