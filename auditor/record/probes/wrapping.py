"""How a function of a library comes to tell us that it is called: nothing of ours is left in a traceback."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

from auditor.record.callsite import hide_us


def telling(function: Callable[..., Any], tell: Callable[..., None], after: bool = False) -> Callable[..., Any]:
    """A stand-in for `function` that calls `tell` with the same arguments, before it or (with the result put first) after it."""
    if after:

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                hide_us(error)
                raise
            tell(result, *args, **kwargs)
            return result
    else:

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            tell(*args, **kwargs)
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                hide_us(error)
                raise

    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__text_signature__"):
        try:
            setattr(stand_in, name, getattr(function, name))
        except (AttributeError, TypeError):
            pass
    return stand_in


def bracket(function: Any, enter: Callable[[Any], None], leave: Callable[[], None]) -> Callable[[], None]:
    """Give a Python function another body: `enter(first argument)`, what it did before, and `leave()` however it ends.

    The function stays the same object with the same file, lines and columns, so stacks and tracebacks stay as they are. Returns what
    undoes it; without source, nothing is done.
    """
    import ast  # torch has imported both
    import inspect

    original = function.__code__
    try:
        lines, first = inspect.getsourcelines(function)
    except OSError:
        return lambda: None
    # The line that is put before it keeps the columns of an indented method.
    tree = ast.increment_lineno(ast.parse("if 1:\n" + "".join(lines) if lines[0][:1].isspace() else "\n" + "".join(lines)), first - 2)
    definition = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    names = {f"__repro_audit_{what.__name__}_{original.co_name}": what for what in (enter, leave)}
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
