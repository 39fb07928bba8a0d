"""The tuned numbers in the source of `auditor.matching`, and the package with one of them changed, in a process of its own."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.util
import os
import pickle
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

HOUSE = Path(__file__).resolve().parent.parent / "auditor" / "matching"
_PACKAGE = "auditor.matching"
#: Calls of one function that are traced for each pair: what it executes later, it has executed by then.
_TRACED_CALLS = 2000
#: Numbers that are definitions, or that only shorten or format what is said.
_DEFINED = {
    ("factor", "_BETAS"), ("factor", "_known"), ("factor", "_bias_corrections"), ("factor", "_MAX_READINGS"), ("propagation", "_POWERS"),
    ("verdict", "_MAX_ORIGINS"), ("result", "_CURVE_POINTS"), ("result", "_LARGEST_ERROR"), ("result", "_digits"), ("relation", "_rounded"),
    ("alignment", "_listed"), ("equivalence", "SAME"), ("layout", "permuted"), ("lists", "__init__"), ("lists", "_sketches"),
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """One number in the source."""

    module: str
    owner: str
    """The constant that it is the value of, or the function that it stands in."""
    line: int
    column: int
    end: int
    text: str
    is_multiplier: bool
    held: str
    """What it holds, as the comment above it says, or the line that it stands in."""
    lines: frozenset[tuple[str, int]] = field(default=frozenset(), compare=False)
    """The lines that run when it is used, with their modules."""

    def __str__(self) -> str:
        return f"{self.module}.{self.owner} {self.text}"

    @property
    def is_named(self) -> bool:
        """Whether it is the value of a constant of the module."""
        return self.owner.strip("_").isupper()

    @property
    def variants(self) -> dict[str, str]:
        """What it is changed into, by what that is."""
        value = ast.literal_eval(self.text)
        if isinstance(value, int) and not self.is_multiplier:
            large = min(64 * value, max(4096, 4 * value))
            return {"0": "0", "1": "1", "half": str(value // 2), "double": str(2 * value), "large": str(large)}
        return {"0": "0.0", "half": repr(value / 2), "double": repr(2.0 * value), "large": "1e18"}


def sites() -> Iterator[Site]:
    """Every number in the package that is more than 0, 1, an index or a definition."""
    for path in sorted(HOUSE.glob("*.py")):
        yield from _sites_in(path.stem, path.read_text())


def _sites_in(module: str, source: str) -> Iterator[Site]:
    tree = ast.parse(source)
    rows = [row.encode() for row in source.splitlines()]
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not _is_tuned(node, parents[node]):
            continue
        above = list(_above(node, parents))
        statement = next(one for one in above if isinstance(one, ast.stmt))
        function = next((one for one in above if isinstance(one, ast.FunctionDef)), None)
        owner = function.name if function is not None else _constant(node, statement)
        if (module, owner) in _DEFINED:
            continue
        lines = {(module, line) for line in _lines(statement)} if function is not None else set(_uses(module, owner))
        row, end = rows[node.lineno - 1], node.end_col_offset or 0
        number = row[node.col_offset : end].decode()
        yield Site(
            module, owner, node.lineno, node.col_offset, end, number, _multiplies(parents[node]), _held(rows, node.lineno), frozenset(lines)
        )


def _multiplies(parent: ast.AST) -> bool:
    return isinstance(parent, ast.BinOp) and isinstance(parent.op, (ast.Mult, ast.Div))


def _held(rows: Sequence[bytes], line: int) -> str:
    """What a number holds: the comment above a constant, or the line of the code."""
    code = rows[line - 1].decode()
    above = [row.decode().removeprefix("#: ") for row in rows[max(0, line - 3) : line - 1] if row.startswith(b"#: ")]
    return above[-1] if above and not code.startswith(" ") else f"`{code.strip()}`"


def _is_tuned(node: ast.Constant, parent: ast.AST) -> bool:
    """Whether a number could as well be another one: neither 0, 1, an index, a power nor, unless it multiplies, 2."""
    if type(node.value) not in (int, float) or node.value in (0, 1) or (isinstance(parent, ast.Subscript) and parent.slice is node):
        return False
    if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow):
        return False
    return node.value != 2 or (isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Mult))


def _constant(node: ast.Constant, statement: ast.stmt) -> str:
    """The name of the module's constant that a number is the value of."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target] if isinstance(statement, ast.AnnAssign) else []
    names = [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Tuple) and len(names) == len(statement.value.elts):
        return names[next((k for k, one in enumerate(statement.value.elts) if one is node), 0)]
    return names[0] if names else "?"


def _above(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in parents:
        node = parents[node]
        yield node


def _lines(statement: ast.AST) -> frozenset[int]:
    """The lines of a statement without those of the block below it."""
    body = getattr(statement, "body", None)
    end = body[0].lineno - 1 if isinstance(body, list) and body else statement.end_lineno  # type: ignore[attr-defined]
    return frozenset(range(statement.lineno, max(end, statement.lineno) + 1))  # type: ignore[attr-defined]


def _uses(module: str, name: str) -> Iterator[tuple[str, int]]:
    """The lines in which a constant of a module is used, in any module that has a constant of that name."""
    for path in sorted(HOUSE.glob("*.py")) if not name.startswith("_") else [HOUSE / f"{module}.py"]:
        tree = ast.parse(path.read_text())
        parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id == name:
                statement = next(one for one in _above(node, parents) if isinstance(one, ast.stmt))
                is_default = isinstance(statement, ast.FunctionDef)  # whatever the function does then depends on it
                lines = range(statement.lineno, (statement.end_lineno or 0) + 1) if is_default else _lines(statement)
                yield from ((path.stem, line) for line in lines)


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module of the package with a number changed."""

    def __init__(self, site: Site, text: str) -> None:
        self.site, self.text = site, text
        self.name = _PACKAGE if site.module == "__init__" else f"{_PACKAGE}.{site.module}"

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """Found here, if it is the module."""
        if fullname != self.name:
            return None
        file = HOUSE / f"{self.site.module}.py"
        is_package = self.site.module == "__init__"
        below = [str(HOUSE)] if is_package else None
        return importlib.util.spec_from_file_location(fullname, file, loader=self, submodule_search_locations=below)

    def exec_module(self, module: ModuleType) -> None:
        """Run its source, changed."""
        file = HOUSE / f"{self.site.module}.py"
        rows = file.read_text().encode().split(b"\n")
        row = rows[self.site.line - 1]
        rows[self.site.line - 1] = row[: self.site.column] + f"({self.text})".encode() + row[self.site.end :]
        exec(compile(b"\n".join(rows), str(file), "exec"), module.__dict__)


def with_change(site: Site | None, text: str, work: Callable[[], Any], seconds: int = 120) -> Any:
    """What work returns in a forked process in which the package is imported with the change; an exception as its text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            signal.alarm(seconds)
            if site is not None:
                sys.meta_path.insert(0, _Changed(site, text))
            found = pickle.dumps(work())
            with os.fdopen(write, "wb") as stream:
                stream.write(found)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else None


def executed(work: Callable[[], object]) -> set[tuple[str, int]]:
    """The lines of the package that work executes, with their modules."""
    found: set[tuple[str, int]] = set()
    calls: Counter[CodeType] = Counter()

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        code = frame.f_code
        if event == "call":
            calls[code] += 1
            if calls[code] > _TRACED_CALLS or not code.co_filename.startswith(str(HOUSE)):
                return None
        found.add((Path(code.co_filename).stem, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return found
