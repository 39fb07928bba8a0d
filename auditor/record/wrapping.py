"""How a function of a library comes to tell us that it is called: nothing of ours is left in a traceback."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from auditor.interruptions import interrupts
from auditor.record.callsite import hide_us
from auditor.record.imports import failed


class _StandIn:
    """Passes for the function that it stands in for in all but `type()`: whatever is asked of it is asked of that, `__class__` included.

    A function of C that a class keeps is not bound to the instances, one of Python is, hence the two kinds below.
    """

    __slots__ = ("__weakref__", "_repro_audit_after", "_repro_audit_before", "_repro_audit_body", "_repro_audit_original")

    def __init__(self, original: Any, body: Any, before: Callable[..., None] | None, after: Callable[..., None] | None) -> None:
        setattr_ = object.__setattr__
        setattr_(self, "_repro_audit_original", original)
        setattr_(self, "_repro_audit_body", body)
        setattr_(self, "_repro_audit_before", before)
        setattr_(self, "_repro_audit_after", after)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        before, after = self._repro_audit_before, self._repro_audit_after
        if before is not None:
            try:
                before(*args, **kwargs)
            except Exception as error:  # what we fail to note must not end the user's program
                if interrupts(error):
                    raise
                failed(before, error)
        try:
            result = self._repro_audit_body(*args, **kwargs)
        except BaseException as error:
            hide_us(error)
            raise
        if after is not None:
            try:
                after(result, *args, **kwargs)
            except Exception as error:  # likewise
                if interrupts(error):
                    raise
                failed(after, error)
        return result

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._repro_audit_original, name)
        except BaseException as error:
            hide_us(error)
            raise

    def __setattr__(self, name: str, value: object) -> None:
        try:
            setattr(self._repro_audit_original, name, value)
        except BaseException as error:
            hide_us(error)
            raise

    def __delattr__(self, name: str) -> None:
        try:
            delattr(self._repro_audit_original, name)
        except BaseException as error:
            hide_us(error)
            raise

    def __repr__(self) -> str:
        return repr(self._repro_audit_original)

    def __eq__(self, other: object) -> bool:
        return bool(self._repro_audit_original == other)  # a stand-in is asked in its turn, so this ends at two originals

    def __hash__(self) -> int:
        return hash(self._repro_audit_original)

    def __reduce_ex__(self, protocol: Any) -> Any:
        original = original_of(self)
        # pickle takes functions of Python by their name before it asks them anything
        reduced = original.__qualname__ if self.__class__ is FunctionType else original.__reduce_ex__(protocol)
        if isinstance(reduced, str):
            found: Any = sys.modules.get(str(self.__module__))
            for name in reduced.split("."):
                found = getattr(found, name, None)
            if found is not None and found is not self and found == self:  # the name is of the original still
                import copy  # pickle has imported it

                return copy.copy, (original,)
        return reduced

    def __copy__(self) -> Any:
        import copy  # it is what asks

        made = copy.copy(self._repro_audit_original)  # another one only of a method
        same = original_of(made) is original_of(self)
        return self if same else type(self)(made, self._repro_audit_body, self._repro_audit_before, self._repro_audit_after)

    def __deepcopy__(self, memo: Any) -> Any:
        import copy  # it is what asks

        made = copy.deepcopy(self._repro_audit_original, memo)  # another one only of a method, whose object is copied
        return self if made is self._repro_audit_original else made

    # Asked of the original, because a class has these of its own.
    __class__ = property(lambda self: self._repro_audit_original.__class__)
    __doc__ = property(lambda self: self._repro_audit_original.__doc__)
    __module__ = property(lambda self: self._repro_audit_original.__module__)


# Within a function that Dynamo compiles, a call of a stand-in is left to Python.
_StandIn.__call__._torchdynamo_disable = True  # type: ignore[attr-defined]  # as torch.compiler.disable does


class _BindingStandIn(_StandIn):
    """One of a function that is bound when it is an attribute of a class."""

    __slots__ = ()
    __doc__ = vars(_StandIn)["__doc__"]  # every class body begins with new ones
    __module__ = vars(_StandIn)["__module__"]

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        original = self._repro_audit_original
        bound = original.__get__(instance, owner)
        if bound is original:  # asked of its class
            return self
        if type(bound) is MethodType and bound.__func__ is original:
            return MethodType(self, bound.__self__)
        # a method of C: its bound form is an object of its own kind, for which another stands in
        body, before, after = self._repro_audit_body, self._repro_audit_before, self._repro_audit_after
        whose = bound.__self__
        return _StandIn(
            bound,
            bound if body is original else partial(body, whose),
            before and partial(before, whose),
            after and (lambda result, *args, **kwargs: after(result, whose, *args, **kwargs)),
        )


# What the classes are made with, and no function has.
del _StandIn.__slots__, _BindingStandIn.__slots__


def stand_in(original: Any, body: Any, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None) -> Any:
    """What passes for `original`, and runs `body` where it is called, between `before` and `after` (given the result first).

    All three are given the arguments of the call; to each `sys._getframe(2)` is the caller.
    """
    binds = hasattr(type(original), "__get__") and not isinstance(original, MethodType)
    return (_BindingStandIn if binds else _StandIn)(original, body, before, after)


def original_of(function: Any) -> Any:
    """What a function stands in for, below all stand-ins; itself if it is none."""
    while issubclass(type(function), _StandIn):
        function = function._repro_audit_original
    return function


def body_of(function: Any) -> Any:
    """What a stand-in does where a script calls it; a function that is none."""
    while hasattr(function, "_repro_audit_body"):
        function = function._repro_audit_body
    return function


def telling(function: Any, tell: Callable[..., None], after: bool = False) -> Any:
    """A stand-in for `function` that calls `tell` with the same arguments, before it or (with the result put first) after it.

    To `tell`, `sys._getframe(2)` is the caller.
    """
    return stand_in(function, function, None, tell) if after else stand_in(function, function, tell)


def replace(module: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a function of a module, and of the one that it says that it is of: there pickle looks for it (`posix`, for those of `os`)."""
    original = getattr(module, name)
    made = make(original)
    for where in (module, sys.modules.get(str(original.__module__))):
        if getattr(where, name, None) is original:
            setattr(where, name, made)


def telling_of_a_change(function: Any, state_of: Callable[..., int], tell: Callable[..., None]) -> Any:
    """A stand-in that calls `tell` with the result, the state before, and the same arguments."""
    before = [0]

    def remember(*args: Any, **kwargs: Any) -> None:
        before[0] = state_of(*args, **kwargs)

    return telling(telling(function, remember), lambda result, *args, **kwargs: tell(result, before[0], *args, **kwargs), after=True)


def _guarded(tell: Callable[..., None]) -> Callable[..., None]:
    def guarded(*args: Any) -> None:
        try:
            tell(*args)
        except Exception as error:  # as in a stand-in: what we fail to note must not end the user's program
            if interrupts(error):
                raise
            failed(tell, error)

    return guarded


def bracket(function: Any, enter: Callable[[Any], None], leave: Callable[[Any], None]) -> Callable[[], None]:
    """Give a Python function another body: `enter(first argument)`, what it did before, and `leave` with the same however it ends.

    `leave` is also called where a signal handler of the script's raised before `enter` was done.

    The function stays the same object with the same file, lines and columns, so stacks and tracebacks stay as they are. Returns what
    undoes it. Raises OSError where there is no source.
    """
    import ast  # torch has imported both
    import inspect

    original = function.__code__
    lines, first = inspect.getsourcelines(function)
    # The line that is put before it keeps the columns of an indented method.
    tree = ast.increment_lineno(ast.parse("if 1:\n" + "".join(lines) if lines[0][:1].isspace() else "\n" + "".join(lines)), first - 2)
    definition = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    names = {f"__repro_audit_{what.__name__}_{original.co_name}": _guarded(what) for what in (enter, leave)}
    entering, leaving = names
    argument = definition.args.args[0].arg
    before, after = (ast.Expr(ast.Call(ast.Name(name, ast.Load()), [ast.Name(argument, ast.Load())], [])) for name in (entering, leaving))
    for node in (*ast.walk(before), *ast.walk(after)):
        ast.copy_location(node, definition.body[0])
    definition.body = [ast.copy_location(ast.Try([before, *definition.body], [], [], [after]), definition.body[0])]
    scope: dict[str, Any] = {}
    exec(compile(tree, original.co_filename, "exec", dont_inherit=True), scope)  # noqa: S102  # the library's own source
    code = scope[original.co_name].__code__
    qualified = {"co_qualname": original.co_qualname} if hasattr(original, "co_qualname") else {}
    function.__globals__.update(names)
    function.__code__ = code.replace(co_name=original.co_name, co_firstlineno=original.co_firstlineno, **qualified)

    def undo() -> None:
        function.__code__ = original

    return undo


def replace_in_type(cls: type, name: str, make: Callable[[Any], Any]) -> bool:
    """Replace a method of an extension type, whose attributes Python refuses to set; says whether it did.

    Subclassing it instead would make `type(x) is cls` false in the user's program. The type's real dict is what its read-only
    `__dict__` proxy refers to, and CPython must be told that it changed.
    """
    real = next((d for d in gc.get_referents(cls.__dict__) if isinstance(d, dict)), None)
    if real is None or name not in real:
        return False
    real[name] = make(real[name])
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))
    return True


def position_of(function: Any, name: str) -> int:
    """Position of a parameter of a function."""
    code = function.__code__
    return int(code.co_varnames[: code.co_argcount].index(name))
