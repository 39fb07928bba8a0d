"""Where a seed comes in time: the script's own seeding call moved up, or a new one behind the imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from auditor.mend.edits import (
    Edit,
    added_at_top,
    beginning,
    is_guard,
    moved,
    top_level,
)
from auditor.source.code import FUNCTIONS, Code

#: Per stream: the function that seeds it, the import that brings it, and all functions that seed it.
STREAMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "torch": ("torch.manual_seed", "import torch", ("torch.manual_seed", "torch.random.manual_seed")),
    "numpy": ("numpy.random.seed", "import numpy as np", ("numpy.random.seed",)),
    "python": ("random.seed", "import random", ("random.seed",)),
}
#: Functions of libraries that seed all streams.
_EVERYTHING = re.compile(r"(^|\.)(seed_everything|set_seed|set_random_seed|seed_all|fix_seed|enable_full_determinism)$")
_SEEDED = re.compile(r"seed", re.IGNORECASE)

Edits = list[Edit]


def at_the_top(code: Code, line: int, stream: str) -> Iterator[Edits | None]:
    """The script's own seeding call where it comes in time; else a new one behind the imports."""
    seeding, brought, _ = STREAMS[stream]
    own = [call for call in _calls(code) if _seeds(code, call, stream)]
    placed = [statement for call in own if isinstance(statement := code.parent[call], ast.Expr)]
    if len(own) == 1 and len(placed) == 1:
        yield _earlier(code, placed[0], line)
    if not any(_comes_before(code, call, line) for call in own):
        edits = added_at_top(code, "{0}(0)", [(seeding, brought)])
        yield edits if edits is None or edits[0].start <= _first_at(code, line) else None


def _first_at(code: Code, line: int) -> int:
    """The beginning of the statement of the module by which a line runs, the last of them; the end for a line in a function."""
    found = code.statements_at(line)
    if not found or code.function_of(found[-1]) is not code.tree:
        return len(code.text)
    return code.span(code.tree.body[top_level(code, found[-1])])[0]


def _calls(code: Code) -> list[ast.Call]:
    return [node for node in code.nodes() if isinstance(node, ast.Call)]


def _seeds(code: Code, call: ast.Call, stream: str) -> bool:
    """Whether a call seeds a stream: directly, or by a function of a library or of this file that is there to seed.

    A call within such a function does not count: it runs where that one is called.
    """
    around = code.function_of(call)
    if isinstance(around, FUNCTIONS) and _is_seeding(around):
        return False
    name = code.called(call)
    if name in STREAMS[stream][2] or _EVERYTHING.search(name):
        return True
    return any(
        isinstance(one, FUNCTIONS) and _is_seeding(one) and _seeds_within(code, one, stream) for one in code.defined(call.func)
    )  # fmt: skip


def _is_seeding(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function is there to seed, by its name."""
    return bool(_SEEDED.search(function.name)) or "determinis" in function.name or "reproducib" in function.name


def _seeds_within(code: Code, function: ast.AST, stream: str) -> bool:
    inner = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    return any(code.called(call) in STREAMS[stream][2] or _EVERYTHING.search(code.called(call)) for call in inner)


def _comes_before(code: Code, call: ast.Call, line: int) -> bool:
    """Whether a call at the module's top level, behind no condition, runs before a line."""
    statement = code.parent[call]
    return isinstance(statement, ast.Expr) and code.parent[statement] is code.tree and call.lineno < line


def _earlier(code: Code, seeding: ast.Expr, line: int) -> Edits | None:
    """The seeding statement, moved up to where it comes before what draws in a line."""
    members = code.block(seeding)
    around = code.parent[seeding]
    if not (isinstance(around, (ast.Module, *FUNCTIONS)) or (is_guard(around) and code.field[seeding] == "body")):
        return None
    here = members.index(seeding)
    draws = next((index for index, one in enumerate(members[:here]) if _touches(code, one, line)), None)
    if draws is None:
        return None
    places = [draws]
    if isinstance(around, ast.Module):
        # as far up as its names allow
        places = [index for index in range(beginning(code), draws + 1) if index == beginning(code) or _works(members[index])]
    for index in places:
        if all(_known(code, name, members[index], index, around) for name in _needed(code, seeding)):
            return moved(code, seeding, members, index)
    return None


def _works(statement: ast.stmt) -> bool:
    return not isinstance(statement, (ast.Import, ast.ImportFrom))


def _touches(code: Code, statement: ast.stmt, line: int) -> bool:
    """Whether running a statement may run a line: it stands in it, or in a function or class that the statement names."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return False
    if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
        return True
    seen: set[ast.AST] = set()
    stack: list[ast.AST] = [statement]
    while stack:
        for node in ast.walk(stack.pop()):
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
                for defined in code.defined(node):
                    if defined in seen:
                        continue
                    assert isinstance(defined, (*FUNCTIONS, ast.ClassDef))
                    if defined.lineno <= line <= (defined.end_lineno or defined.lineno):
                        return True
                    seen.add(defined)
                    stack.append(defined)
    return False


def _needed(code: Code, statement: ast.AST, seen: frozenset[ast.AST] = frozenset()) -> list[ast.Name]:
    """The names that a statement uses, and those of the module that the functions use which it calls."""
    needed = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            needed.append(node)
            for defined in code.defined(node):
                if defined not in seen:
                    inner = _needed(code, defined, seen | {defined})
                    needed += [one for one in inner if (found := code.lookup(one.id, one)) is not None and found[0] is code.tree]
    return needed


def _known(code: Code, name: ast.Name, at: ast.stmt, index: int, around: ast.AST) -> bool:
    """Whether a name has its value before a statement of a block."""
    found = code.lookup(name.id, name)
    if found is None:
        return True  # a builtin
    scope, bindings = found
    start = code.span(at)[0]
    if scope is code.function_of(at) or scope is around:
        before = [one for one in bindings if one.how == "parameter" or code.span(one.node)[1] <= start]
        # a value that changes in between would be another one
        return bool(before) and len(before) == len(bindings)
    return scope is not code.tree or isinstance(around, FUNCTIONS)
