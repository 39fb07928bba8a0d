"""Static analysis of the user's source: where something unordered is iterated, a directory listed, a function called. Executes nothing.

Nothing here is a proof. It ranks places once a run has shown which factor is the cause, so anything uncertain is left out; a source that
does not parse gives no results.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable
from functools import cache
from typing import TypeVar

from auditor.source.backward_slice import BackwardSlice
from auditor.source.code import Code, Spot, parsed
from auditor.source.sets import iterated, order_matters

__all__ = ["Flow", "Spot", "calls", "calls_in", "listings", "listings_in", "parsed", "unordered", "unordered_in"]

E = TypeVar("E", bound=ast.expr)
#: A node, what it is, and whether its value reaches the line in question.
Found = tuple[E, str, bool]

_LISTINGS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "glob.glob", "glob.iglob")
_PATHS = ("iterdir", "glob", "rglob")


class Flow:
    """Data flow within the user's files; `read` returns the text of a file."""

    def __init__(self, read: Callable[[str], str]) -> None:
        self._read = read
        self._slice = cache(self._slice_of)

    def distance(self, file: str | None, line: int | None, function: str | None, to_file: str | None, to_line: int | None) -> int | None:
        """Number of statements between a line (in a function) and the line that it feeds; None if no data flow is found."""
        if file is None or line is None or to_file is None or to_line is None:
            return None
        backward = self._slice(to_file, to_line)
        if backward is None:
            return None
        if file == to_file:
            return backward.distance_of(line)
        return backward.distance_of_calls(function) if function and function.isidentifier() else None

    def _slice_of(self, file: str, line: int) -> BackwardSlice | None:
        code = parsed(self._read(file))
        return None if code is None else BackwardSlice(code, line)


def unordered(source: str, line: int) -> list[Spot]:
    """Values whose order depends on hashes or addresses, where the order matters: iterated sets, and calls of hash() and id().

    `what` is `set`, `pop`, `best` (min or max of a set, with a key under which elements may be equal), `hash` or `id`. Those that feed the
    line come first, nearest first; then those above it; then the rest.
    """
    return _spots(source, line, "unordered")


def listings(source: str, line: int) -> list[Spot]:
    """Calls that list a directory without sorting the result; `what` is `os.listdir`, `.glob` and so on. Same ranking."""
    return _spots(source, line, "listings")


def calls(source: str, names: Collection[str], line: int) -> list[Spot]:
    """Calls of functions by their full names, whatever their names in the file; `.name` is a method of any object. Same ranking."""
    code = parsed(source)
    return [] if code is None else _as_spots(code, calls_in(code, names, line))


def _spots(source: str, line: int, of: str) -> list[Spot]:
    code = parsed(source)
    if code is None:
        return []
    return _as_spots(code, unordered_in(code, line) if of == "unordered" else listings_in(code, line))


def _as_spots(code: Code, found: Iterable[Found[E]]) -> list[Spot]:
    return [code.spot(node, what, feeds) for node, what, feeds in found]


def unordered_in(code: Code, line: int) -> list[Found[ast.expr]]:
    """`unordered`, with nodes of the tree."""
    found = list(iterated(code))
    asked = (node for node in code.nodes() if isinstance(node, ast.Call) and code.called(node) in ("hash", "id") and len(node.args) == 1)
    found += [(call, code.called(call)) for call in asked if _value_matters(code, call)]
    return _ranked(code, found, line)


def _value_matters(code: Code, call: ast.Call) -> bool:
    """Whether a hash or an address is used for more than a test of equality."""
    parent = code.parent[call]
    if isinstance(parent, ast.Compare) or (isinstance(parent, ast.Subscript) and code.field[call] == "slice"):
        return False
    if isinstance(parent, ast.Call) and code.called(parent) in (".add", ".get", ".discard", ".remove", ".setdefault"):
        return False
    if isinstance(call.args[0], ast.Constant) and not isinstance(call.args[0].value, (str, bytes)):
        return False
    return not any(isinstance(one, ast.FunctionDef) and one.name == "__hash__" for one in code.ancestors(call))


def listings_in(code: Code, line: int) -> list[Found[ast.Call]]:
    """`listings`, with nodes of the tree."""
    found: list[tuple[ast.Call, str]] = []
    for node in code.nodes():
        if not isinstance(node, ast.Call):
            continue
        name = code.called(node)
        if name not in _LISTINGS:
            known = code.dotted(node.func.value) if isinstance(node.func, ast.Attribute) else None
            if not isinstance(node.func, ast.Attribute) or node.func.attr not in _PATHS or known is not None:
                continue
            name = f".{node.func.attr}"
        if order_matters(code, node, best=False) and not _sorts_as_it_walks(node, name, code):
            found.append((node, name))
    return _ranked(code, found, line)


def _sorts_as_it_walks(call: ast.Call, name: str, code: Code) -> bool:
    """Whether the loop over os.walk() sorts the folders and the files in each iteration."""
    loop = code.parent[call]
    if name not in ("os.walk", "os.fwalk") or not isinstance(loop, ast.For) or not isinstance(loop.target, ast.Tuple):
        return False
    _, *parts = loop.target.elts
    used = [one for statement in loop.body for one in ast.walk(statement) if isinstance(one, ast.Name)]

    def sorts(one: ast.Name) -> bool:
        parent = code.parent[one]
        if isinstance(parent, ast.Attribute):
            return parent.attr == "sort"
        return isinstance(parent, ast.Call) and code.called(parent) == "sorted"

    def in_place(one: ast.Name) -> bool:
        return isinstance(code.parent[one], ast.Attribute) and sorts(one)

    folders, files = ([one for one in used if isinstance(part, ast.Name) and one.id == part.id] for part in parts[:2])
    return any(map(in_place, folders)) and (any(map(in_place, files)) or all(map(sorts, files)))


def calls_in(code: Code, names: Collection[str], line: int) -> list[Found[ast.Call]]:
    """`calls`, with nodes of the tree; `what` is the name that matches."""
    found: list[tuple[ast.Call, str]] = []
    for node in code.nodes():
        if isinstance(node, ast.Call):
            method = f".{node.func.attr}" if isinstance(node.func, ast.Attribute) else ""
            name = next((name for name in (code.called(node), method) if name in names), None)
            if name:
                found.append((node, name))
    return _ranked(code, found, line)


def _ranked(code: Code, found: Iterable[tuple[E, str]], line: int) -> list[Found[E]]:
    backward = BackwardSlice(code, line)
    kept = [(node, what) for node, what in found if not code.in_formatted_string(node)]
    return [(node, what, backward.feeds(node)) for node, what in sorted(kept, key=lambda one: backward.rank(one[0]))]
