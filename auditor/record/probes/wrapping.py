"""How a function of a library is replaced by one that tells us first: nothing of ours is left in a traceback."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any


def telling(function: Callable[..., Any], tell: Callable[..., None], after: bool = False) -> Callable[..., Any]:
    """A stand-in for `function` that calls `tell` with the same arguments, before it or (with the result put first) after it."""
    if after:

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                # A bare `raise` adds no traceback entry (3.11 and later), so without ours the user sees what they would have seen.
                error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
                raise
            tell(result, *args, **kwargs)
            return result
    else:

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            tell(*args, **kwargs)
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None  # as above
                raise

    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__text_signature__"):
        try:
            setattr(stand_in, name, getattr(function, name))
        except (AttributeError, TypeError):
            pass
    return stand_in


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
