"""Call a function when a module has finished importing; never import it.

One finder at the head of `sys.meta_path` asks the other finders and lends their loader for the length of one import.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from auditor.interruptions import interrupts
from auditor.record.callsite import hide_us

_waiting: dict[str, list[Callable[[ModuleType], None]]] = {}


def when_imported(name: str, then: Callable[[ModuleType], None]) -> None:
    """Call `then(module)` as soon as the module is there: now, or at the end of its import."""
    module = sys.modules.get(name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        _call(then, module)
    else:
        _waiting.setdefault(name, []).append(then)


def install() -> None:
    """Put the finder in place."""
    sys.meta_path.insert(0, _Finder())


def _call(then: Callable[[ModuleType], None], module: ModuleType) -> None:
    try:
        then(module)
    except Exception as error:  # a probe that does not fit this version must not end the user's program
        if interrupts(error):
            raise
        failed(then, error)


_failures: dict[str, int] = {}


def failed(part: Callable[..., object], error: Exception) -> None:
    """Keep what a part of ours failed with, for the trace."""
    part = getattr(part, "func", part)
    name = f"{part.__module__.removeprefix('auditor.record.')}.{getattr(part, '__qualname__', part)}"
    what = f"{name} failed: {type(error).__name__}: {error}"
    _failures[what] = _failures.get(what, 0) + 1


def failures() -> list[tuple[str, int]]:
    """What failed and how often; taken once."""
    taken = list(_failures.items())
    _failures.clear()
    return taken


def forget(module: ModuleType) -> None:
    """Take a module out of `sys.modules` at the next import: Python is importing it still."""
    _forgotten.append(module)


_forgotten: list[ModuleType] = []


class _Finder:
    """Finds nothing by itself: wraps the loader of a module that somebody waits for."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        while _forgotten:
            module = _forgotten.pop()
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
        if name not in _waiting:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # a loader by behaviour, not by class
                return spec
        return None


class _Loader:
    """The module's own loader, followed by the functions that wait for it."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self.loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self.loader
        module.__loader__ = self.loader
        try:
            self.loader.exec_module(module)
        except BaseException as error:
            hide_us(error)
            raise
        for then in _waiting.pop(module.__name__, ()):
            _call(then, module)
