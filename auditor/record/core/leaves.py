"""Names of the tensors whose gradients a backward pass accumulates: what the script calls them, else what their module does.

Locals of functions are asked for one by one (Python 3.12 and later): before 3.13 the dict `f_locals` of a function's frame keeps all of
them alive until the function ends. Under older versions a tensor that only a function's local holds is named by its shape.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record import digest
from auditor.record.callsite import is_user_code

if TYPE_CHECKING:
    from auditor.record.lane import Lane

_MOST = 0xFFFF
#: Entries of a list, dict or object that are looked at, and frames.
_WIDEST = 1000
_DEEPEST = 30
#: Tensors that are no parameters for which the frames are searched: a script can make new ones in every step.
_SEARCHES = 500
_VERSION: tuple[int, ...] = sys.version_info[:2]
_OPTIMIZED = 0x1  # inspect.CO_OPTIMIZED: the locals are no dict


class Leaves:
    """Numbers of a lane's leaves."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._named: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._numbers: dict[str, int] = {}
        self._searches = 0

    def number(self, variable: Any) -> int:
        """Number of a leaf, which is named when it is met for the first time; 0 if there are too many.

        Leaves of one name share a number: inputs that are made anew in every step.
        """
        key = id(variable)
        found = self._known.get(key)
        if found is not None and found[0]() is variable:
            return found[1]
        with digest.Unseen():
            name = self.name(variable)
            shape = list(map(int, variable.shape))
        number = self._numbers.get(name, 0)
        if not number and len(self._numbers) < _MOST:
            number = self._numbers[name] = self.lane.define("leaf", {"name": name, "shape": shape})
        known = self._known
        known[key] = (weakref.ref(variable, lambda reference: forget(known, key, reference)), number)
        return number

    def held_by(self, module: Any, path: str) -> None:
        """Name the parameters of a module after its path, those that have no name yet."""
        for inner, part in parts_of(module, path):
            for name, parameter in held(part, "_parameters"):
                found = self._named.get(id(parameter))
                if found is None or found[0]() is not parameter:
                    self._named[id(parameter)] = (weakref.ref(parameter), f"{inner}.{name}")

    def name(self, variable: Any) -> str:
        """What the script calls a tensor, else what its module does, else its shape."""
        said = self._said(variable) if self._searches < _SEARCHES else None
        if said is None:
            found = self._named.get(id(variable))
            said = found[1] if found is not None and found[0]() is variable else None
        return said or f"a tensor of shape {list(map(int, variable.shape))}"

    def _said(self, variable: Any) -> str | None:
        """What the user's frames call it, the innermost first; their modules' globals last."""
        import torch

        if not isinstance(variable, torch.nn.Parameter):
            self._searches += 1
        scopes: dict[int, dict[str, Any]] = {}
        frame: FrameType | None = sys._getframe(1)
        for _ in range(_DEEPEST):
            if frame is None:
                break
            if is_user_code(frame.f_code.co_filename):
                scopes[id(frame.f_globals)] = frame.f_globals
                for name, value in _locals_of(frame):
                    found = _within(name, value, variable, torch.nn.Module)
                    if found:
                        return found
            frame = frame.f_back
        for scope in scopes.values():
            for name, value in list(scope.items()):
                found = _within(name, value, variable, torch.nn.Module)
                if found:
                    return found
        return None


def parts_of(module: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A module and all that it holds, each once, with their paths: as `named_modules`, which may be the user's own function, has them."""
    seen = set()
    waiting = [(path, module)]
    while waiting:
        path, part = waiting.pop()
        if part is not None and id(part) not in seen:
            seen.add(id(part))
            yield path, part
            waiting += [(f"{path}.{name}", child) for name, child in reversed(list(held(part, "_modules")))]


def held(module: Any, what: str) -> Iterator[tuple[str, Any]]:
    """The `_modules` or `_parameters` of one module, those that are there."""
    return ((name, value) for name, value in _attributes(module).get(what, {}).items() if value is not None)


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object, read without asking its class, whose answers may be the user's code; none if it has no dict."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError as error:
        if interrupts(error):
            raise
        return {}
    return found if type(found) is dict else {}


def forget(known: dict[int, tuple[weakref.ref[Any], int]], key: int, reference: weakref.ref[Any]) -> None:
    """Drop what is known of an object that is gone, unless its address was given to another one since."""
    if key in known and known[key][0] is reference:
        del known[key]


def _locals_of(frame: FrameType) -> Iterator[tuple[str, Any]]:
    code = frame.f_code
    if not code.co_flags & _OPTIMIZED:
        return  # those of a module are its globals
    if _VERSION >= (3, 13):
        yield from frame.f_locals.items()
    elif _VERSION >= (3, 12):
        get = ctypes.pythonapi.PyFrame_GetVarString
        get.restype, get.argtypes = ctypes.py_object, (ctypes.py_object, ctypes.c_char_p)
        for name in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
            try:
                yield name, get(frame, name.encode())
            except NameError as error:  # not bound yet
                if interrupts(error):
                    raise
                continue


def _within(name: str, value: Any, variable: Any, module: type) -> str | None:
    """How the leaf is reached from a name: the name itself, one of its entries or attributes, or a parameter of a module."""
    if value is variable:
        return name
    kind = type(value)
    if issubclass(kind, module):
        own = ((path, entry) for path, part in parts_of(value, name) for entry in held(part, "_parameters"))
        return next((f"{path}.{last}" for path, (last, parameter) in own if parameter is variable), None)
    if kind in (list, tuple) and len(value) <= _WIDEST:
        return next((f"{name}[{k}]" for k, part in enumerate(value) if part is variable), None)
    if kind is dict and len(value) <= _WIDEST:
        return next((f"{name}[{key!r}]" for key, part in value.items() if part is variable and type(key) in (str, int)), None)
    if is_user_code(getattr(sys.modules.get(kind.__module__), "__file__", None) or "<string>"):
        attributes = _attributes(value)
        if len(attributes) <= _WIDEST:
            for attribute, part in attributes.items():
                if part is variable:
                    return f"{name}.{attribute}"
                if issubclass(type(part), module) and (inner := _within(attribute, part, variable, module)):
                    return f"{name}.{inner}"
    return None
