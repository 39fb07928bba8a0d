"""How a function of a library comes to tell us that it is called: nothing of ours is left in a traceback."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any

from auditor.record.callsite import hide_us
from auditor.record.imports import failed


class _StandIn:
    """Passes for the function that it stands in for: its attributes, its signature, its place in a pickle.

    A function of C kept on a class is not bound to the instances (`pathlib` of Python 3.10 keeps `io.open` so), hence the two kinds below.
    """

    __slots__ = ("__weakref__", "_after", "_function", "_tell")

    def __init__(self, function: Any, tell: Callable[..., None], after: bool) -> None:
        for name, value in (("_function", function), ("_tell", tell), ("_after", after)):
            object.__setattr__(self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._after:
            try:
                self._tell(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # what we fail to note must not end the user's program
                failed(self._tell, error)
        try:
            result = self._function(*args, **kwargs)
        except BaseException as error:
            hide_us(error)
            raise
        if self._after:
            try:
                self._tell(result, *args, **kwargs)
            except Exception as error:  # noqa: BLE001  # likewise
                failed(self._tell, error)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._function, name, value)

    def __repr__(self) -> str:
        return repr(self._function)

    def __reduce__(self) -> Any:
        name = getattr(self, "__qualname__", "")
        if getattr(sys.modules.get(str(self.__module__)), name, None) is self:
            return name
        import copy  # pickle has imported it

        return copy.copy, (self._function,)

    # Read from the function, because a class has these of its own.
    __doc__ = property(lambda self: self._function.__doc__)
    __module__ = property(lambda self: self._function.__module__)

    __wrapped__ = property(lambda self: self._function)


# Within a function that Dynamo compiles, a call of a stand-in is left to Python.
_StandIn.__call__._torchdynamo_disable = True  # type: ignore[attr-defined]  # as torch.compiler.disable does


class _BoundStandIn(_StandIn):
    __slots__ = ()
    __doc__ = vars(_StandIn)["__doc__"]  # every class body begins with new ones
    __module__ = vars(_StandIn)["__module__"]

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)


def telling(function: Any, tell: Callable[..., None], after: bool = False) -> Any:
    """A stand-in for `function` that calls `tell` with the same arguments, before it or (with the result put first) after it.

    To `tell`, `sys._getframe(2)` is the caller.
    """
    binds = hasattr(type(function), "__get__") and not isinstance(function, MethodType)
    return (_BoundStandIn if binds else _StandIn)(function, tell, after)


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
        except Exception as error:  # noqa: BLE001  # as in a stand-in: what we fail to note must not end the user's program
            failed(tell, error)

    return guarded


def bracket(function: Any, enter: Callable[[Any], None], leave: Callable[[], None]) -> Callable[[], None]:
    """Give a Python function another body: `enter(first argument)`, what it did before, and `leave()` however it ends.

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
    argument = ast.Name(definition.args.args[0].arg, ast.Load())
    before = ast.Expr(ast.Call(ast.Name(entering, ast.Load()), [argument], []))
    after = ast.Expr(ast.Call(ast.Name(leaving, ast.Load()), [], []))
    for node in (*ast.walk(before), *ast.walk(after)):
        ast.copy_location(node, definition.body[0])
    definition.body = [before, ast.copy_location(ast.Try(definition.body, [], [], [after]), definition.body[0])]
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
    """Position of a parameter of a function, or of what it is wrapped around."""
    inner = getattr(function, "__wrapped__", function)
    names = inner.__code__.co_varnames[: inner.__code__.co_argcount]
    return int(names.index(name))
